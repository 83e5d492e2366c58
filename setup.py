"Everything that settings.ini holds, handed to setuptools; pyproject.toml holds the rest."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
config = ConfigParser(delimiters=["="], interpolation=None)
config.read(root / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]


def lines(key: str) -> list:
    return [line.strip() for line in settings[key].splitlines() if line.strip()]


version = re.search(r'__version__ = "(.+?)"', (root / "libdocs/__init__.py").read_text(encoding="utf-8"))[1]

setup(
    version=version,
    python_requires=">=" + settings["min_python"],
    packages=[*find_packages(include=["libdocs", "libdocs.*"]), "libdocs.notebooks"],
    package_dir={"libdocs.notebooks": "nbs/pipelines"},
    package_data={"libdocs.notebooks": ["*.ipynb"], "libdocs.report": ["*.css", "*.js"]},
    keywords=settings["keywords"],
    install_requires=lines("requirements"),
    extras_require={extra: lines(f"{extra}_requirements") for extra in (
        "dev", "bench", "lora", "minilm", "mlflow", "onnx", "s3", "serve", "trackio", "tune")},
    entry_points={"console_scripts": lines("console_scripts"), "nbdev": ["libdocs = libdocs._modidx:d"]},
)
