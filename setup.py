"""Two roots, two packages: the platform and its meta-learners. All else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    package_dir={
        "etude": "platform/etude",
        "etude_metalearners": "metalearners/etude_metalearners",
    },
    packages=find_packages("platform") + find_packages("metalearners"),
)
