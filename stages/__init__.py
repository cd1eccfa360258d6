"""The stages' scripts. Under DVC, what ends one waits until it can be answered (olivepress/core/stage.py).

DVC has deleted a stage's outputs before it starts one, and what a script imports takes a second or two: a signal that
came meanwhile would end it before it could bring them back.
"""

import os
import signal

if os.environ.get("DVC_STAGE") and hasattr(signal, "pthread_sigmask"):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
