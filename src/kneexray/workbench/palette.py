"""The colours of the house, read from the style sheet of its reports, as a Streamlit theme and as the variables of a page."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Literal

Scheme = Literal["light", "dark"]


@cache
def palette(scheme: Scheme) -> MappingProxyType[str, str]:
    """Return the colours that ``templates/page.css`` names, without the leading ``--``."""
    sheet = (resources.files("kneexray") / "pages" / "templates" / "page.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", sheet, flags=re.DOTALL)[:2]
    return MappingProxyType(dict(re.findall(r"--([\w-]+): (#\w+)", light if scheme == "light" else dark)))


def theme() -> dict[str, str]:
    """Return Streamlit's ``theme`` options, by name. Cards and fields stand on a slightly darker page."""
    light, dark = palette("light"), palette("dark")
    grounds = {"light": (light["card"], light["paper"]), "dark": (dark["paper"], dark["card"])}
    options = {"baseRadius": "6px", "showWidgetBorder": "true", "baseFontSize": "15"}
    for scheme, colours in (("light", light), ("dark", dark)):
        ground, raised = grounds[scheme]
        options |= {
            f"{scheme}.primaryColor": colours["truth"],
            f"{scheme}.backgroundColor": ground,
            f"{scheme}.secondaryBackgroundColor": raised,
            f"{scheme}.textColor": colours["ink"],
            f"{scheme}.linkColor": colours["truth"],
            f"{scheme}.borderColor": colours["rule"],
            f"{scheme}.sidebar.backgroundColor": raised,
            f"{scheme}.sidebar.secondaryBackgroundColor": ground,
        }
    return options


def style() -> str:
    """Return the style sheet of the workbench: the palette as variables that follow the scheme that the reader chose, then the rules."""
    dark = palette("dark")
    variables = "".join(f"--{name}: light-dark({colour}, {dark[name]});" for name, colour in palette("light").items())
    rules = (resources.files("kneexray") / "workbench" / "style.css").read_text(encoding="utf-8")
    return f".stApp {{{variables}}}\n{rules}"
