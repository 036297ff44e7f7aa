"""The ament_python package of the lifecycle node."""

from setuptools import setup

NAME = "plr_edge_ros"

setup(
    name=NAME,
    version="0.2.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/plr_edge.launch.py"]),
        (f"share/{NAME}/config", ["config/plr_edge.yaml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="plr-edge contributors",
    maintainer_email="maintainers@plr-edge.invalid",
    description="A lifecycle node that learns new classes in the field with plr-edge.",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"plr_edge_node = {NAME}.node:main"]},
)
