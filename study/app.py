"""The web application: `create_app` wires the parts together and does nothing else."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flask import Flask, jsonify, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from study import admin, files, joining, leaving, voting
from study.languages import speak
from study.markdown import render
from study.security import secure
from study.store import open_store


def create_app(config: Mapping[str, Any]) -> Flask:
    """Make the application of one study.

    config  SECRET_KEY, STUDY (the folder); DATABASE_URL if not SQLite; PROXIES, how many reverse proxies
            stand in front (0); SENDFILE, which of study.delivery.SENDERS sends pictures (this one);
            BOT_CHECK_SECRET, of the service that the protocol names, if any. What is asked stands in the
            database.

    Raises
    ------
    RuntimeError
        If there is no good SECRET_KEY.
    """
    app = Flask("study", template_folder=str(files("templates")), static_folder=str(files("static")))
    app.config.from_mapping(
        SESSION_COOKIE_NAME="study",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(days=30),
        SESSION_REFRESH_EACH_REQUEST=False,  # a cookie with each picture would tell the second it was sent
        MAX_CONTENT_LENGTH=16 * 1024,
        WTF_CSRF_TIME_LIMIT=None,  # a voter may take a long break; the token lives as long as the session
        SENDFILE="",
        BOT_CHECK_SECRET="",
        WTF_CSRF_SSL_STRICT=False,  # it would ask for the Referer that our Referrer-Policy withholds
    )
    app.config.from_mapping(config)
    app.register_blueprint(joining.bp)
    app.register_blueprint(voting.bp)
    app.register_blueprint(leaving.bp)
    app.register_blueprint(admin.bp)
    app.register_error_handler(HTTPException, _say_it)
    secure(app)
    speak(app)
    app.config["STORE"] = open_store(app.config["STUDY"], app.config.get("DATABASE_URL"))
    app.add_template_filter(render, "markdown")
    return app


def _say_it(error: HTTPException) -> Any:
    """An error as JSON where a script asked, else as a page."""
    code = "csrf" if isinstance(error, CSRFError) else error.name.lower().replace(" ", "_")
    if request.is_json or request.path.startswith("/trials/"):
        return jsonify(error=code), error.code
    return render_template("error.html", error=error, code=code), error.code
