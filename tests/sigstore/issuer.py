"""A small OpenID Connect issuer for tests on loopback: it believes whoever asks.

One process serves several issuers, each under its own path, with its own client id and key. Fulcio reads the discovery
document and the keys; tests ask /mint for a token, or go through the authorization code flow with PKCE that a browser
goes through, or ask as a job on GitHub does.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"


class Issuer:
    """One issuer: `path` is where it lies below the server's address, "" or such as "/second"."""

    def __init__(self, address, path, client_id, client_secret=None):
        self.url = address + path
        self.client_id = client_id
        self.client_secret = client_secret
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.key_id = secrets.token_hex(8)
        self.codes = {}

    def discovery(self):
        return {
            "issuer": self.url,
            "authorization_endpoint": self.url + "/auth",
            "token_endpoint": self.url + "/token",
            "jwks_uri": self.url + "/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["openid", "email"],
        }

    def keys(self):
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [key | {"kid": self.key_id, "alg": "ES256", "use": "sig"}]}

    def token(self, email, subject=None, audience=None, lifetime=600, **more):
        now = int(time.time())
        # As at most providers, the subject is an opaque word, not the address.
        subject = subject or base64.urlsafe_b64encode(hashlib.sha256(email.encode()).digest()[:15]).decode()
        claims = {
            "iss": self.url,
            "sub": subject,
            "aud": audience or self.client_id,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "email": email,
            "email_verified": True,
        } | more
        return jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": self.key_id})

    def authorize(self, query):
        """The answer to a browser at the authorization endpoint: (status, headers, text)."""
        redirect = query.get("redirect_uri", "")
        if query.get("client_id") != self.client_id or query.get("response_type") != "code":
            return 400, {}, "unknown client_id, or response_type is not code\n"
        if "openid" not in query.get("scope", "").split():
            return 400, {}, "scope has no openid\n"
        if query.get("code_challenge_method") != "S256" or not query.get("code_challenge"):
            return 400, {}, "no PKCE challenge with S256\n"
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        if redirect == OUT_OF_BAND:
            return 200, {}, code + "\n"
        if urlsplit(redirect).hostname not in ("localhost", "127.0.0.1"):
            return 400, {}, "redirect_uri is neither out of band nor on loopback\n"
        answer = {"code": code} | ({"state": query["state"]} if "state" in query else {})
        return 302, {"Location": redirect + ("&" if "?" in redirect else "?") + urlencode(answer)}, ""

    def exchange(self, form, basic):
        """The answer to a client at the token endpoint: (status, object)."""
        client, secret = basic or (form.get("client_id"), form.get("client_secret"))
        if client != self.client_id or not hmac.compare_digest(secret or "", self.client_secret or ""):
            return 401, {"error": "invalid_client"}
        # A code is good for one try.
        asked = self.codes.pop(form.get("code"), None)
        if form.get("grant_type") != "authorization_code" or asked is None:
            return 400, {"error": "invalid_grant", "error_description": "no such code"}
        if form.get("redirect_uri") != asked.get("redirect_uri"):
            return 400, {"error": "invalid_grant", "error_description": "redirect_uri differs"}
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return 400, {"error": "invalid_grant", "error_description": "code_verifier does not fit"}
        more = {"nonce": asked["nonce"]} if "nonce" in asked else {}
        token = self.token(asked.get("login_hint", "browser@example.com"), **more)
        # sigstore-python takes the access token for the identity token, as Sigstore's own provider gives one for both.
        return 200, {"access_token": token, "id_token": token, "token_type": "Bearer", "expires_in": 600}


def answer(issuer, method, path, query, headers, body):
    """What `issuer` says to a request: (status, headers, text), or None where it has no such path."""
    as_json = {"Content-Type": "application/json"}
    if path == "/.well-known/openid-configuration":
        return 200, as_json, json.dumps(issuer.discovery())
    if path == "/keys":
        return 200, as_json, json.dumps(issuer.keys())
    if path == "/auth":
        return issuer.authorize(query)
    if path == "/token" and method == "POST":
        form = {name: values[-1] for name, values in parse_qs(body.decode()).items()}
        basic = None
        if headers.get("Authorization", "").startswith("Basic "):
            basic = base64.b64decode(headers["Authorization"][6:]).decode().split(":", 1)
        status, content = issuer.exchange(form, basic)
        return status, as_json, json.dumps(content)
    if path == "/mint":
        lifetime = int(query.pop("lifetime", 600))
        return 200, {}, issuer.token(query.pop("email"), lifetime=lifetime, **query) + "\n"
    if path == "/github":
        # What ACTIONS_ID_TOKEN_REQUEST_URL leads to; any bearer token will do.
        if not headers.get("Authorization", "").lower().startswith("bearer "):
            return 401, {}, "no bearer token\n"
        token = issuer.token("ambient@example.com", audience=query.get("audience"))
        return 200, as_json, json.dumps({"value": token})
    return None
