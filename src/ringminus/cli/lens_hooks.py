"""`ringminus lens hooks`: what an addon may have."""

from __future__ import annotations

from difflib import get_close_matches

import click

from ringminus.errors import ConfigError
from ringminus.lens.addons.hooks import ALL, HOOKS, Hook, describe


def _names(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    return [name for name in HOOKS if name.startswith(typed)]


def _find(name: str) -> Hook:
    if name in HOOKS:
        return HOOKS[name]
    near = get_close_matches(name, HOOKS, 1, 0.5)
    hint = f": did you mean {near[0]}?" if near else ""
    raise ConfigError(f"there is no hook {name}{hint}")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_names)
@click.option("--markdown", "as_markdown", is_flag=True, help="All of them, as the reference has them.")
def hooks(names: tuple[str, ...], as_markdown: bool) -> None:
    """The methods that an addon may have (ringminus run --addon FILE).

    Without a NAME they are listed, with one it is told when it is called, what its event is, and what can be
    done with that.
    """
    if as_markdown:
        from ringminus.lens.addons.reference import markdown

        click.echo(markdown(), nl=False)
    elif names:
        click.echo("\n\n".join(describe(_find(name)) for name in names))
    else:
        width = max(len(one.call) for one in ALL)
        for one in ALL:
            click.echo(f"{one.call:<{width}}  {one.when}")
