"""What makes the site safe by default: the key, the cookie, CSRF, the headers, the proxy, the limits.

Requests are counted in the memory of each worker process, so that no further service is needed: with N
workers somebody may get through N times as often as it says here. Addresses are never written anywhere.
"""

from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from flask import Flask, Request, Response, abort, g, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from flask_wtf.csrf import CSRFProtect
from itsdangerous import BadSignature
from limits import parse
from limits.strategies import FixedWindowRateLimiter
from werkzeug.middleware.proxy_fix import ProxyFix

from study.bot_check import Service
from study.platforms import MTURK_FORMS, MTURK_FRAMES
from study.visitor import open_protocol
from study.windows import Windows

SHORTEST_KEY = 16
COOKIES = 1024  # so many are kept that were found to be ours: of participants who are at it just now

DIRECTIVES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
# Of a study that lets people in from MTurk, which shows it in a frame and takes the last page's form.
MTURK = {
    "form-action": " ".join(("'self'", *MTURK_FORMS)),
    "frame-ancestors": " ".join(MTURK_FRAMES),
}


def policy(framed: bool = False, bot_check: Service | None = None) -> str:
    """The Content-Security-Policy of a page, which MTurk frames, or which shows the widget of a bot check."""
    directives = DIRECTIVES | MTURK if framed else dict(DIRECTIVES)
    for name, sources in bot_check.policy.items() if bot_check else ():
        directives[name] = f"{directives.get(name, '')} {sources}".strip()
    return "; ".join(f"{name} {allowed}" for name, allowed in directives.items())


POLICY = policy()
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
HTTPS_FOR = "max-age=31536000"  # a year

# All windows are a minute. Nobody answers more than five pairs a second (static/vote.js), and a pair is
# three requests: 900 a minute.
EACH = "3000 per minute"
STARTS = "120 per minute"  # from one address: a lecture hall behind one router may start together
LOGINS = "10 per minute"  # from one address


class Cookies(SecureCookieSessionInterface):
    """The session cookie; in MTurk's frame a browser sends it only if it says that it may be there."""

    def __init__(self, app: Flask) -> None:
        """`app` has its key."""
        serializer = self.get_signing_serializer(app)
        assert serializer is not None  # noqa: S101 - there is a key
        self._read = lru_cache(COOKIES)(serializer.loads)  # what is not ours is raised, and not kept

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession:
        """What a cookie says; Flask would work its signature out anew with each picture."""
        cookie = request.cookies.get(self.get_cookie_name(app))
        if not cookie:
            return self.session_class()
        try:
            content, signed = self._read(cookie, return_timestamp=True)
        except BadSignature:
            return self.session_class()
        if datetime.now(UTC) - signed > app.permanent_session_lifetime:
            return self.session_class()
        return self.session_class(content)  # a copy

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Send the cookie if it changed; Flask would first work out all that it would say of it."""
        if session.modified:
            super().save_session(app, session, response)
        elif session.accessed:
            response.vary.add("Cookie")

    def get_cookie_samesite(self, app: Flask) -> str | None:
        """None where MTurk shows the study, else as configured."""
        return "None" if _framed() else super().get_cookie_samesite(app)

    def get_cookie_secure(self, app: Flask) -> bool:
        """Only by https, which SameSite=None needs."""
        return _framed() or super().get_cookie_secure(app)

    def get_cookie_partitioned(self, app: Flask) -> bool:
        """Each site that frames us has a cookie jar of its own."""
        return _framed() or super().get_cookie_partitioned(app)


def secure(app: Flask) -> None:
    """Make an application safe whose views are registered and whose configuration is complete.

    Raises
    ------
    RuntimeError
        If there is no SECRET_KEY, or one that can be guessed: a study with a known key could be voted in
        by anybody for anybody.
    """
    if len(app.config.get("SECRET_KEY") or "") < SHORTEST_KEY:
        raise RuntimeError(f"SECRET_KEY must have {SHORTEST_KEY} characters or more; `study init` makes one")
    proxies = app.config.setdefault("PROXIES", 0)
    if proxies:
        # Believed only where somebody said that there is a proxy: else each client could say who it is.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]
    app.config["SESSION_COOKIE_SECURE"] = proxies > 0
    app.session_interface = Cookies(app)
    _limit(app)  # first: what is refused for another reason is counted too
    app.before_request(_refuse_nul)
    CSRFProtect(app)
    app.after_request(_send_headers)


def _limit(app: Flask) -> None:
    limiter = FixedWindowRateLimiter(Windows())
    each, starts, logins = parse(EACH), parse(STARTS), parse(LOGINS)

    @app.before_request
    def count() -> None:
        """Refuse whoever asked too often; static files, and what is not there, anybody may ask for."""
        if request.endpoint in (None, "static"):
            return
        posted = request.endpoint if request.method == "POST" else ""
        counted = []
        if not _unknown():
            counted.append((each, "each", _who()))
            if posted == "joining.start":
                counted.append((starts, "start", _address()))
        if posted == "admin.login":
            counted.append((logins, "login", _address()))
        if not all(limiter.hit(*one) for one in counted):
            abort(429)


def _who() -> str:
    """A participant where there is one, whatever the address; else the address."""
    return session.get("voter") or session.get("admin") or _address()


def _address() -> str:
    """Where a request comes from, as far as one person has one: of version 6 that is the first half."""
    sender = request.remote_addr or "nowhere"
    try:
        address = ip_address(sender)
    except ValueError:  # a proxy that writes something else into its header
        return sender
    if isinstance(address, IPv6Address) and not address.ipv4_mapped:
        return f"{int(address) >> 64:016x}"
    return str(getattr(address, "ipv4_mapped", None) or address)


def _unknown() -> bool:
    """Whether a stranger's address says nothing: this machine, or a proxy that nobody declared."""
    return "voter" not in session and "admin" not in session and is_loopback(request.remote_addr or "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, which no other can reach."""
    try:
        return host == "localhost" or ip_address(host.removeprefix("::ffff:")).is_loopback
    except ValueError:
        return False


def _refuse_nul() -> None:
    """Nobody types NUL, and PostgreSQL stores no text that has one; JSON is looked at where it is read."""
    typed = request.form.values() if request.method == "POST" else ()
    if any("\0" in text for text in (request.path, *request.args.values(), *typed)):
        abort(400)


def _framed() -> bool:
    """Whether new voters may come from MTurk."""
    protocol = open_protocol()
    return protocol is not None and protocol.entrances.mturk


def _send_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    if response.mimetype == "text/html":
        response.headers["Content-Security-Policy"] = policy(_framed(), g.get("bot_check"))
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = HTTPS_FOR
    if "Cache-Control" not in response.headers:
        # The Back button asks the server where the voter is; and nothing of anybody stays in a cache.
        response.headers["Cache-Control"] = "no-store"
    if response.status_code == 429:
        response.headers["Retry-After"] = "60"
    return response
