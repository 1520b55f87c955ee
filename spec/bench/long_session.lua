-- Constant work per event: one session of 20 000 envelopes, the last tenth against the first.

local ingest = require("spec.bench.lib.ingest")

local ENVELOPES = 20000

-- Time between the first and the last raw row of a tenth.
local TENTHS = [[
  select min(ts) as began, max(ts) as ended from (
    select ts, ntile(10) over (order by seq) as tenth from run_events_raw where kind = 'stream-envelope'
  ) as rows where tenth = $1]]

return {
  name = "long_session",
  about = "one session of 20 000 envelopes: cost per envelope in the last tenth against the first",
  run = function(report)
    local st, runtime = ingest.prepare(1, ENVELOPES)
    local result = ingest.observe(st, ENVELOPES)
    local function span(tenth)
      local row = assert(result.db:query(TENTHS, { tenth })).rows[1]
      return row.ended - row.began
    end
    -- The very first envelopes wait for the start of the plane: the second tenth is the fair base.
    local first, last = span(2), span(10)
    report:at_most("last tenth against the second", last / first, 1.2, "x")
    report:note("  %.0f ms against %.0f ms; %.0f envelopes/s overall", last, first, ENVELOPES / result.seconds)
    ingest.finish(st, runtime, result)
  end,
}
