"""The datapath process: ``python -m appliance.datapath.soft FD``, started by the daemon with its control socket."""

from __future__ import annotations

import os

from appliance.process.footprint import leave_out_openssl

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported: its threads would only take memory
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    leave_out_openssl()
    from appliance.datapath.soft.process import main

    raise SystemExit(main())
