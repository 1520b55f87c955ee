-- Export of a long run: lines of JSON for 100 000 events, and what it adds to the memory of the process.

local crypto = require("host.crypto")
local fetch = require("host.fetch")
local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local stack = require("spec.bench.lib.stack")

local EVENTS = 100000

local RUN = [[
insert into runs (tenant, id, status, mode, runtime_kind, runtime_session_id, last_event_seq, started_at, ended_at)
values ('default', $1::uuid, 'completed', 'live', 'rust', ($1::uuid)::text, $2::bigint, now(), now())]]

local HISTORY = [[
insert into run_events_canonical (tenant, run_id, seq, ts, type, document)
select 'default', $1::uuid, i, now(), 'message.received', '{"id":"' || gen_random_uuid() || '","runId":"'
  || ($1::uuid)::text || '","seq":' || i || ',"ts":"2026-05-06T07:08:09.123Z","type":"message.received",'
  || '"schemaVersion":3,"subject":'
  || '{"kind":"message","id":"' || gen_random_uuid() || '"},"source":{"kind":"runtime","name":"rust-runtime",'
  || '"rawType":"Evaluation"},"data":{"modeName":"macp.mode.decision.v1","messageType":"Evaluation","messageId":"m'
  || i || '","sessionId":"' || ($1::uuid)::text || '","sender":"ann","decodedPayload":{"proposalId":"p1",'
  || '"confidence":0.75,'
  || '"recommendation":"APPROVE","reason":"' || repeat('words ', 20) || '"}}}'
from generate_series(1, $2::int) i]]

-- Reads a reply to its end: lines, bytes, seconds, and the highest resident memory of the process meanwhile. (yields)
local function read(url, process)
  local began, lines, bytes, peak, pieces = sys.mono_ms(), 0, 0, 0, 0
  local reply = assert(fetch.open({ url = url, headers = {}, timeout_ms = 600000, max_body_bytes = 10737418240 }))
  assert(reply.status == 200, reply.status)
  while true do
    local piece, err = reply:read()
    if piece == nil then
      if err then error(err.message) end
      break
    end
    piece = tostring(piece)
    bytes, pieces = bytes + #piece, pieces + 1
    local _, count = piece:gsub("\n", "")
    lines = lines + count
    if pieces % 100 == 0 then peak = math.max(peak, stack.rss_mib(process.proc:pid())) end
  end
  return { lines = lines, bytes = bytes, seconds = (sys.mono_ms() - began) / 1000,
    peak = math.max(peak, stack.rss_mib(process.proc:pid())) }
end

return {
  name = "export",
  about = "GET /runs/:id/export/stream of 100 000 events, one client",
  run = function(report)
    local st = stack.new({ database = true })
    local process = st:serve("plane,runtime")
    local db = assert(pg.open({ conninfo = st.database_url, size = 1 }))
    local id = crypto.uuid4()
    assert(db:query(RUN, { n = 2, id, EVENTS }))
    assert(db:query(HISTORY, { n = 2, id, EVENTS }))
    assert(db:query("analyze run_events_canonical", { n = 0 }))
    st:get("/runs/" .. id .. "/state") -- folds and stores the projection, which is no part of an export's work
    task.sleep(1000)
    local before = stack.rss_mib(process.proc:pid())
    local result = read(st.url .. "/runs/" .. id .. "/export/stream", process)
    if result.lines ~= EVENTS + 1 then error(result.lines .. " lines") end
    report:at_least("events exported", EVENTS / result.seconds, 50000, "/s")
    report:at_most("memory grown meanwhile", result.peak - before, 20, "MiB")
    report:note("%.1f MiB in %.2f s", result.bytes / 1048576, result.seconds)
    db:close()
    process:kill()
    process:wait(30000)
    st:close()
  end,
}
