"""Images of terminals and pages, made by Chromium without a window."""

import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from PIL import Image
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, MONOKAI, TerminalTheme
from rich.text import Text

_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
_SECONDS: Final = 60
_COLORS: Final = 64
_MAX_LINES: Final = 92
_VIEW_BOX: Final = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')

Theme = Literal["light", "dark"]


def draw_terminal(
    show: Callable[[Console], None], width: int, title: str, *, colors: bool = True
) -> str:
    """An SVG image of what `show` prints to a terminal of this width."""
    printed = io.StringIO()
    show(
        Console(
            file=printed,
            width=width,
            force_terminal=True,
            color_system="truecolor",
            no_color=not colors,
            highlight=False,
            _environ={},
        )
    )
    recorder = Console(file=io.StringIO(), record=True, width=width, _environ={})
    lines = printed.getvalue().strip("\n").split("\n")[:_MAX_LINES]
    for line in [*lines, ""]:  # the last line of the image is cut off
        recorder.print(Text.from_ansi(line), no_wrap=True, crop=True)
    theme: TerminalTheme = MONOKAI if colors else DEFAULT_TERMINAL_THEME
    return recorder.export_svg(title=title, theme=theme)


def save_svg(svg: str, path: Path) -> None:
    """Save an SVG image as PNG, at most 1,400 pixels wide."""
    found = _VIEW_BOX.search(svg)
    assert found is not None, "Rich and Textual write the size of their images"
    width, height = map(float, found.groups())
    scale = min(1.0, 1400 / width)
    style = f"body{{margin:0}}svg{{width:{width * scale}px;display:block}}"
    page = f"<meta charset=utf-8><style>{style}</style>{svg}"
    save_page(page, path, (round(width * scale), round(height * scale)))


def save_page(page: str, path: Path, size: tuple[int, int], theme: Theme = "light") -> None:
    """Save the upper part of a page, of this size in pixels, as PNG."""
    with tempfile.TemporaryDirectory() as folder:
        source, shot = Path(folder, "page.html"), Path(folder, "page.png")
        source.write_text(page, encoding="utf-8")
        subprocess.run(
            [
                _find_browser(),
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                f"--user-data-dir={folder}/profile",
                f"--window-size={size[0]},{size[1]}",
                "--virtual-time-budget=20000",
                f"--blink-settings=preferredColorScheme={0 if theme == 'dark' else 1}",
                f"--screenshot={shot}",
                source.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=_SECONDS,
        )
        save_image(shot.read_bytes(), path)


def save_image(content: bytes, path: Path) -> None:
    """Save a PNG image with few colors, which makes the file small."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.quantize(_COLORS, dither=Image.Dither.NONE).save(path, optimize=True)


def _find_browser() -> str:
    wanted = os.environ.get("CHROMIUM")
    found = wanted or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise SystemExit("no browser: run `apt-get install chromium`, or set CHROMIUM to its path")
    return found
