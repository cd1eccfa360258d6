"""Is this machine fit for the chosen profile?

What is collected (``facts``, ``needs``) is apart from what is concluded (``problems``), so that the conclusions can be
tested on machines that are not at hand.
"""
