"""ROS 2 without ROS: the logic of the node in `deploy/ros2`."""
