"""Does many jobs with model_signing in one process, since starting it costs half a second: peer.py JOBS.json

Prints a list with [exit code, what was said] for each job. A job is one of
  {"cli": [argument, ...]}                                   the command line, exactly as `python -m model_signing`
  {"sign"|"verify": model, "signature": .., "key": ..,       the library, with
   "hash": sha256|blake2|blake3 or null, "shards": N or null}   an explicit configuration, or null: verify guesses it
"""

import json
import sys

import click.testing
from model_signing import _cli, hashing, signing, verifying


def config(job):
    how = dict(hashing_algorithm=job["hash"])
    made = hashing.Config()
    if job["shards"]:
        return made.use_shard_serialization(shard_size=job["shards"], **how)
    return made.use_file_serialization(**how)


def do(job):
    if "cli" in job:
        result = click.testing.CliRunner().invoke(_cli.main, job["cli"])
        return result.exit_code, result.output
    try:
        if "sign" in job:
            signer = signing.Config().use_elliptic_key_signer(private_key=job["key"])
            signer.set_hashing_config(config(job)).sign(job["sign"], job["signature"])
        else:
            verifier = verifying.Config().use_elliptic_key_verifier(public_key=job["key"])
            if job["hash"]:
                verifier.set_hashing_config(config(job))
            verifier.verify(job["verify"], job["signature"])
        return 0, ""
    except Exception as error:  # whatever it is, it is the library's answer
        return 1, f"{type(error).__name__}: {error}"


print(json.dumps([do(job) for job in json.load(open(sys.argv[1], encoding="utf-8"))]))
