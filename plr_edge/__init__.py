"""A robot learns new classes in the field, on the board it carries."""

TYPE_CHECKING = False  # which type checkers take for true; `typing` would double the import's cost
if TYPE_CHECKING:
    from plr_edge.backbones import load_backbone as load_backbone
    from plr_edge.bundle.reading import open_bundle as open_bundle
    from plr_edge.config import AdaptConfig as AdaptConfig
    from plr_edge.config import EngineConfig as EngineConfig
    from plr_edge.config import LearningConfig as LearningConfig
    from plr_edge.errors import PlrEdgeError as PlrEdgeError
    from plr_edge.export.bundle_export import export_bundle as export_bundle
    from plr_edge.robot.options import RobotOptions as RobotOptions
    from plr_edge.ros.adapter import RosAdapter as RosAdapter
    from plr_edge.runtime.adapt import AdaptSummary as AdaptSummary
    from plr_edge.runtime.adapt import adapt as adapt
    from plr_edge.runtime.perception import Perception as Perception
    from plr_edge.runtime.session import Session as Session
    from plr_edge.stream import open_stream as open_stream

_HOMES = {
    "AdaptConfig": "plr_edge.config",
    "AdaptSummary": "plr_edge.runtime.adapt",
    "EngineConfig": "plr_edge.config",
    "LearningConfig": "plr_edge.config",
    "Perception": "plr_edge.runtime.perception",
    "PlrEdgeError": "plr_edge.errors",
    "RobotOptions": "plr_edge.robot.options",
    "RosAdapter": "plr_edge.ros.adapter",
    "Session": "plr_edge.runtime.session",
    "adapt": "plr_edge.runtime.adapt",
    "export_bundle": "plr_edge.export.bundle_export",
    "load_backbone": "plr_edge.backbones",
    "open_bundle": "plr_edge.bundle.reading",
    "open_stream": "plr_edge.stream",
}
_EXTRAS = {
    "AdaptSummary": "train",
    "Session": "train",
    "adapt": "train",
    "export_bundle": "export",
    "load_backbone": "train",
}
__all__ = sorted(_HOMES)

if not TYPE_CHECKING:  # for it would lend every misspelt name a type

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used, so that light commands stay light."""
        if name not in _HOMES:
            raise AttributeError(f"module 'plr_edge' has no attribute {name!r}")
        import importlib

        if name in _EXTRAS:
            from plr_edge.errors import require

            require(_EXTRAS[name], why=f"plr_edge.{name}")
        return getattr(importlib.import_module(_HOMES[name]), name)
