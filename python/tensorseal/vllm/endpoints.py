"""What is asked over HTTP: an endpoint plugin of vLLM. It is loaded only if `VLLM_PLUGINS` names `tensorseal`.

`POST /tensorseal/reverify` measures all sealed memory again: 200 if it is unchanged, 409 if not, 503 if there is no answer.
`GET /tensorseal/status` says what was loaded and sealed. `GET /tensorseal/metrics` is for Prometheus.
"""

from argparse import Namespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

_CODES = {"unchanged": 200, "broken": 409, "no_answer": 503}


class Endpoints:
    """The plugin."""

    name = "tensorseal"
    required_tasks = None

    def __init__(self) -> None:
        self._engine: Any = None

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """The engine, or None in a server that has none."""
        self._engine = engine_client

    async def ask(self, method: str) -> list[Any]:
        """What all workers answer."""
        if self._engine is None:
            return []
        return list(await self._engine.collective_rpc(method))

    def attach_router(self, app: "FastAPI") -> None:
        """Adds the routes."""
        from fastapi.responses import JSONResponse, PlainTextResponse

        @app.post("/tensorseal/reverify")
        async def reverify() -> JSONResponse:
            answers = await self.ask("tensorseal_reverify")
            result = worst([answer["result"] for answer in answers])
            return JSONResponse({"result": result, "workers": answers}, status_code=_CODES[result])

        @app.get("/tensorseal/status")
        async def status() -> JSONResponse:
            return JSONResponse({"workers": await self.ask("tensorseal_status")})

        @app.get("/tensorseal/metrics")
        async def metrics() -> PlainTextResponse:
            pages = await self.ask("tensorseal_exposition")
            return PlainTextResponse(merged(pages), media_type="text/plain; version=0.0.4")


def worst(results: list[str]) -> str:
    """The verdict of all workers together. Of none it is no answer."""
    for result in ("broken", "no_answer"):
        if result in results:
            return result
    return "unchanged" if results else "no_answer"


def merged(pages: list[str]) -> str:
    """One page of several for Prometheus: each family has its description once, and then the samples of all."""
    families: dict[str, tuple[list[str], list[str]]] = {}
    for page in pages:
        about: list[str] = []
        samples: list[str] = []
        name = ""
        for line in page.splitlines():
            if line.startswith("#"):
                kind, family = line.split(" ")[1:3]
                if family != name:
                    name, (about, samples) = family, families.setdefault(family, ([], []))
                if kind not in {known.split(" ")[1] for known in about}:
                    about.append(line)
            elif line:
                samples.append(line)
    return "".join(f"{line}\n" for about, samples in families.values() for line in (*about, *samples))
