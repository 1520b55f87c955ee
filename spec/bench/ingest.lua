-- Ingest: 200 sessions of 50 envelopes, from the runtime over gRPC until everything is committed.

local ingest = require("spec.bench.lib.ingest")

local SESSIONS, ENVELOPES = 200, 50

return {
  name = "ingest",
  about = "envelopes from a runtime until raw rows, canonical events and projections are committed (200 x 50)",
  run = function(report)
    local st, runtime = ingest.prepare(SESSIONS, ENVELOPES)
    local total = SESSIONS * ENVELOPES
    local result = ingest.observe(st, total)
    report:at_least("envelopes committed", total / result.seconds, 8000, "/s", "commit")
    report:at_most("CPU of the plane per envelope", result.cpu_ms * 1000 / total, 60, "us")
    ingest.finish(st, runtime, result)
  end,
}
