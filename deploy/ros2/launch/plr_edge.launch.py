"""Start the node, configure it and activate it. Start it again if it ends.

ros2 launch plr_edge_ros plr_edge.launch.py image:=/camera/image_raw params_file:=my.yaml
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

PARAMETERS = Path(__file__).resolve().parent.parent / "config" / "plr_edge.yaml"


def generate_launch_description():
    """Return the node, and the events that bring it to `active`."""
    node = LifecycleNode(
        package="plr_edge_ros",
        executable="plr_edge_node",
        name="plr_edge",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file")],
        remappings=[("image", LaunchConfiguration("image"))],
        output="screen",
        respawn=True,
        respawn_delay=2.0,
    )

    def change(transition_id):
        event = ChangeState(
            lifecycle_node_matcher=matches_action(node), transition_id=transition_id
        )
        return EmitEvent(event=event)

    configured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change(Transition.TRANSITION_ACTIVATE)],
    )
    started = OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "image", default_value="image", description="Topic of the images."
            ),
            DeclareLaunchArgument(
                "namespace", default_value="", description="Namespace of the node."
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=str(PARAMETERS),
                description="YAML file with the parameters of the node.",
            ),
            RegisterEventHandler(started),
            RegisterEventHandler(configured),
            node,
        ]
    )
