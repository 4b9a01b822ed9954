"""Python imports this file first where its folder is on the path: networks of a server's workers then sleep a while for
each row before they run. Nothing of the server itself is replaced.
"""

import os
import sys
import time

if "serve-worker" in sys.orig_argv:
    from corelane.model.runtimes.onnx.runtime import OnnxRuntime

    _run = OnnxRuntime.run
    _row_s = float(os.environ["SLEEPING_ROW_S"])

    def _sleeping(self, inputs):
        time.sleep(_row_s * len(next(iter(inputs.values()))))
        return _run(self, inputs)

    OnnxRuntime.run = _sleeping
