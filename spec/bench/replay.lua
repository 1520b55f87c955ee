-- Replay of a finished run at once: 20 000 events as an event stream.

local crypto = require("host.crypto")
local net = require("host.net")
local pg = require("host.pg")
local sys = require("host.sys")

local stack = require("spec.bench.lib.stack")

local EVENTS = tonumber(sys.env("BENCH_EVENTS") or 20000)
local ROUNDS = 3

local RUN = [[
insert into runs (tenant, id, status, mode, runtime_kind, runtime_session_id, last_event_seq, started_at, ended_at)
values ('default', $1::uuid, 'completed', 'live', 'rust', ($1::uuid)::text, $2::bigint, now(), now())]]

local HISTORY = [[
insert into run_events_canonical (tenant, run_id, seq, ts, type, document)
select 'default', $1::uuid, i * 2, now(), 'message.received', '{"id":"' || gen_random_uuid() || '","runId":"'
  || ($1::uuid)::text || '","seq":' || i * 2 || ',"ts":"2026-05-06T07:08:09.123Z","type":"message.received",'
  || '"schemaVersion":3,"data":{"messageType":"Evaluation","messageId":"m' || i || '","sender":"ann","payload":"'
  || repeat('words ', 50) || '"}}'
from generate_series(1, $2::int) i]]

-- Reads one replay to its end: events, bytes, seconds. (yields)
local function play(port, run_id)
  local began, sock = sys.mono_ms(), assert(net.connect("127.0.0.1", port))
  assert(sock:write("GET /runs/" .. run_id .. "/replay/stream?mode=instant HTTP/1.1\r\nHost: localhost\r\n"
    .. "Connection: close\r\n\r\n"))
  local pieces, bytes = {}, 0
  while true do
    local piece = sock:read(1048576)
    if piece == nil then break end
    pieces[#pieces + 1] = piece
    bytes = bytes + #piece
  end
  local seconds = (sys.mono_ms() - began) / 1000
  sock:close()
  local _, events = table.concat(pieces):gsub("event: canonical_event\n", "")
  return events, bytes, seconds
end

return {
  name = "replay",
  about = "GET /replay/stream?mode=instant of a finished run; BENCH_EVENTS sets how many events",
  run = function(report)
    local st = stack.new({ database = true })
    local runtime = st:serve("runtime")
    local plane = st:serve("plane")
    local run_id = crypto.uuid4()
    local db = assert(pg.open({ conninfo = st.database_url, size = 1 }))
    assert(db:query(RUN, { run_id, EVENTS * 2 }))
    assert(db:query(HISTORY, { run_id, EVENTS }))
    db:close()
    local best, bytes = 0, 0
    local before = stack.cpu_ms(plane.proc:pid())
    for _ = 1, ROUNDS do
      local events, size, seconds = play(st.http_port, run_id)
      if events ~= EVENTS then error(string.format("%d of %d events arrived", events, EVENTS)) end
      best, bytes = math.max(best, events / seconds), size
    end
    local cpu_ms = stack.cpu_ms(plane.proc:pid()) - before
    for _, proc in ipairs({ plane, runtime }) do proc:crash() end
    st:close()
    report:at_least(EVENTS .. " events at once", best, 50000, "/s")
    report:note("  %.1f MiB each time, %.1f us of the plane's processor time per event", bytes / 1048576,
      cpu_ms * 1000 / EVENTS / ROUNDS)
  end,
}
