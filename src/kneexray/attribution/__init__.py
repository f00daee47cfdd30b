"""Attribution: why a trained network answers as it does. Needs the ``explain`` extra."""
