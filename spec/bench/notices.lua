-- What a commit of events pays for the fence, and for telling other planes: two connections commit batches of one run
-- each, as the plane's writers do, plain, with the fence, and with a notice besides.

local crypto = require("host.crypto")
local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local stack = require("spec.bench.lib.stack")

local SECONDS, EVENTS = 3, 20

local RUN = [[
insert into runs (tenant, id, status, mode, runtime_kind, runtime_session_id, lease_owner)
values ('default', $1::uuid, 'running', 'live', 'rust', ($1::uuid)::text, 'bench')]]

local EVENT = [[
insert into run_events_canonical (tenant, run_id, seq, ts, type, document) values ($1, $2, $3, now(), $4, $5)]]

local CASES = {
  { name = "plain" },
  { name = "with the fence", fence = true },
  { name = "with fence and notice, as for runs that another plane's streams follow", fence = true, notice = true },
}

-- Commits per second of two connections. (yields)
local function measure(db, case)
  local commits, stop_at = 0, sys.mono_ms() + SECONDS * 1000
  local document = '{"data":"' .. ("x"):rep(400) .. '"}'
  assert(task.group(function(group)
    for slot = 1, 2 do
      group:spawn(function()
        local id, seq, unit = crypto.uuid4(), 0, db:unit()
        assert(db:query(RUN, { id }))
        while sys.mono_ms() < stop_at do
          unit:clear()
          for _ = 1, EVENTS do
            seq = seq + 1
            assert(unit:add(EVENT, "default", id, seq, "message.received", document))
          end
          if case.fence then
            assert(unit:add("select plane_fence($1, $2, $3::uuid[])", "default", "bench", pg.array({ id })))
          end
          if case.notice then
            assert(unit:add("select pg_notify($1, $2)", "macp_stream_hub", "default/" .. id .. ":" .. seq))
          end
          assert(unit:commit_on(slot))
          commits = commits + 1
        end
        return true
      end)
    end
  end))
  return commits / SECONDS
end

return {
  name = "notices",
  about = "commits of " .. EVENTS .. " events per second: plain, fenced, and told to another plane",
  run = function(report)
    local st = stack.new({ database = true })
    local db = assert(pg.open({ conninfo = st.database_url, size = 4 }))
    local sub = assert(db:listen("macp_stream_hub"))
    local listener = task.spawn(function()
      while sub:next() do end
      return true
    end)
    local rates = {}
    for i, case in ipairs(CASES) do
      rates[i] = measure(db, case)
      report:note("  %.0f commits/s %s", rates[i], case.name)
    end
    sub:close()
    listener:join()
    db:close()
    st:close()
    report:at_least("a fenced commit, of a plain one", rates[2] / rates[1], 0.9, "")
    report:at_least("with a notice, of a fenced one", rates[3] / rates[2], 0.4, "")
  end,
}
