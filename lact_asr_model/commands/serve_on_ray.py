"""The service on several machines, with Ray Serve: `serve run lact_asr_model.commands.serve_on_ray:app`.

Arguments are the options of `lact-asr serve` without dashes, such as `beam_size=50 use_ttt=true`, and `num_replicas=N`.
"""

import argparse
import os
from typing import Any

import click
from starlette.types import ASGIApp

from lact_asr_model.commands.serve import TOKEN_VARIABLE, make_parser, make_service
from lact_asr_model.errors import UserError

_OF_RAY = ("host", "port")


def app(given: dict[str, str]) -> Any:
    """The Serve application; each replica loads the model. Raises click.ClickException, which `serve` prints."""
    from ray import serve

    try:
        arguments, num_replicas, num_gpus = _parse(given)
    except (UserError, argparse.ArgumentError) as error:
        raise click.ClickException(str(error)) from None
    token = arguments.token or os.environ.get(TOKEN_VARIABLE) or None

    def make() -> ASGIApp:
        from lact_asr_model.serving.app import make_app

        return make_app(make_service(arguments), token)

    deployment = serve.deployment(
        name="lact-asr",
        num_replicas=num_replicas,
        ray_actor_options={"num_cpus": arguments.num_threads or 1, "num_gpus": num_gpus},
        max_ongoing_requests=arguments.max_requests,
        max_queued_requests=arguments.max_requests,
    )
    return deployment(serve.ingress(make)()).bind()


def _parse(given: dict[str, str]) -> tuple[argparse.Namespace, int, float]:
    """The options of a replica, how many of these there are, and the share of a GPU that each has."""
    parser = make_parser()
    parser.exit_on_error = False
    parser.add_argument("--num_replicas", type=int, default=1)
    parser.add_argument("--num_gpus", type=float, default=0.0)
    known = {action.dest: action for action in parser._actions if action.dest not in (*_OF_RAY, "help")}
    words = []
    for name, value in given.items():
        if name not in known:
            hint = "`serve start` has --http-host, --http-port" if name in _OF_RAY else "see `lact-asr serve --help`"
            raise UserError(f"{name}: is no argument of the application; {hint}")
        if not isinstance(known[name], argparse.BooleanOptionalAction):
            words += [f"--{name}={value}"]
        elif value.lower() in ("true", "false"):
            words += [f"--{'no-' if value.lower() == 'false' else ''}{name}"]
        else:
            raise UserError(f"{name}={value}: is not true or false")
    arguments = parser.parse_args(words)
    return arguments, arguments.num_replicas, arguments.num_gpus
