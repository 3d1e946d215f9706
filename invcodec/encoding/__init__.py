"""From a capture to a file: the closed loop, rate control and live encoding."""
