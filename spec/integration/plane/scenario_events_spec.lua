-- Events of scenarios against the plain statement that says what they are, however few or many runs and events there are.
-- Limits that only large databases reach are lowered.

local pg = require("host.pg")

local json = require("macp.core.json")
local migrate = require("macp.store.migrate")
local event_search = require("macp.store.event_search")
local scenario_events = require("macp.store.scenario_events")

local postgres = require("spec.support.postgres")

local RUNS = 600
local FIRST_MS = 1772323200000 -- 2026-03-01
local MINUTE_MS = 60000
local KINDS = { "run.created", "signal.emitted", "message.received", "rare" }

local FILL = { [[
insert into runs (tenant, id, status, mode, runtime_kind, source_ref, scenario_ref, created_at, ended_at)
select case when i % 13 = 0 then 'other' else 'default' end, md5('r' || i)::uuid, 'completed', 'live', 'rust',
  case when i % 4 = 0 then 'source-' || i % 3 end, case when i % 50 = 7 then 'rare/one@1' when i % 3 = 0 then 'pack/a@1'
    when i < 200 then 'early/b@1' else 'pack/c@1' end,
  timestamptz '2026-03-01' + i * interval '1 minute', case when i % 9 > 0 then timestamptz '2026-03-01'
    + i * interval '1 minute' + interval '30 seconds' end
from generate_series(1, $1::int) i]], [[
insert into run_events_canonical (tenant, run_id, seq, ts, type, document)
select case when i % 13 = 0 then 'other' else 'default' end, md5('r' || i)::uuid, n,
  timestamptz '2026-03-01' + i * interval '1 minute' + case when (i + n) % 17 = 0 then interval '3 hours'
    when (i + n) % 19 = 0 then interval '-3 hours' else n * interval '7 seconds' end,
  case when (i * n) % 97 = 0 then 'rare'
    else (array['run.created', 'signal.emitted', 'message.received'])[1 + n % 3] end,
  '{"run":' || i || ',"seq":' || n || '}'
from generate_series(1, $1::int) i cross join lateral generate_series(1, 5 + i % 6) n]] }

-- Entries that know the events of their runs: of most, of some as far as they are before the last two, which came later.
local KNOWN = { "delete from run_events_canonical e using runs r where e.run_id = r.id and e.tenant = r.tenant "
  .. "and r.created_at < '2026-03-01 05:00' and e.seq >= 5 and $1 > 0",
  "update runs set last_event_seq = 1 where $1 > 0 and extract(minute from created_at)::int % 4 > 0", FILL[2]
    .. " on conflict do nothing", "update runs set last_event_seq = 2 where $1 > 0 and last_event_seq = 1" }

describe("events of a scenario", function()
  local stop, db
  local kept = {}

  setup(function()
    local url
    url, stop = postgres.database()
    db = assert(pg.open({ conninfo = url, size = 2 }))
    assert(migrate.run(db))
    for _, text in ipairs(FILL) do assert(db:query(text, { RUNS, n = 1 })) end
    assert(db:query("analyze"))
    for name, value in pairs(scenario_events) do kept[name] = value end
  end)
  teardown(function()
    for name, value in pairs(kept) do scenario_events[name] = value end
    db:close()
    stop()
  end)

  -- How many entries know the events of their runs.
  local function known()
    return assert(db:query("select count(*) as n from run_entries where types is not null")).rows[1].n
  end

  -- The keys of all events of a query in their order, each with its document.
  local function plainly(query)
    local where, params = "e.tenant = 'default' and (r.scenario_ref ilike $1 or r.source_ref = $2)",
      { n = 2, "%" .. query.scenario_ref .. "%", query.scenario_ref }
    local function add(condition, value)
      params.n = params.n + 1
      params[params.n] = value
      where = where .. " and " .. condition .. params.n
    end
    if query.after_ms then add("e.ts >= $", pg.ts(query.after_ms)) end
    if query.before_ms then add("e.ts < $", pg.ts(query.before_ms)) end
    if query.after_seq > 0 then add("e.seq > $", query.after_seq) end
    if query.types then
      add("e.type = any($", pg.array(query.types))
      where = where .. ")"
    end
    local out = {}
    for i, row in ipairs(assert(db:query("select e.run_id || ' ' || e.seq || ' ' || e.document as t from "
      .. "run_events_canonical e join runs r on r.tenant = e.tenant and r.id = e.run_id where " .. where
      .. " order by e.ts, e.run_id, e.seq", params)).rows) do out[i] = row.t end
    return out
  end

  -- The same, page by page.
  local function paged(query)
    local out, pages = {}, 0
    while true do
      local page, err = event_search.page(db, "default", query)
      if page == nil then error(err.message) end
      pages = pages + 1
      for i = 1, math.min(#page.rows, query.limit) do
        local row = page.rows[i]
        out[#out + 1] = row.run_id .. " " .. string.format("%d", row.seq) .. " " .. row.document
      end
      if #page.rows <= query.limit then return out, page.total, pages end
      local last = page.rows[query.limit]
      query = setmetatable({ position = { ts_us = last.ts_us, run_id = last.run_id, seq = last.seq } },
        { __index = query })
    end
  end

  local WAYS = {
    ["of few runs"] = {},
    ["of few runs with too many events"] = { GATHERED = 20 },
    ["of many runs"] = { RUNS = 3 },
    ["of many runs, each looked up"] = { RUNS = 3, KEPT = 5 },
    ["of many runs, counted run by run"] = { RUNS = 3, IN_TIME = -1 },
    ["of many runs, each looked up and counted run by run"] = { RUNS = 3, KEPT = 5, IN_TIME = -1 },
  }
  local TIMES = { {}, { after_ms = FIRST_MS + 200 * MINUTE_MS }, { before_ms = FIRST_MS + 300 * MINUTE_MS },
    { after_ms = FIRST_MS + 250 * MINUTE_MS, before_ms = FIRST_MS + 270 * MINUTE_MS } }
  local MANY = {}
  for i = 1, 20 do MANY[i] = i == 20 and "rare" or "type-" .. i end
  local TYPES = { false, { KINDS[2] }, { KINDS[1], KINDS[4], KINDS[1] }, MANY }

  local function check(way, changes)
    it(way .. " are what a plain statement finds", function()
      for name, value in pairs(kept) do scenario_events[name] = changes[name] or value end
      for _, scenario in ipairs({ "pack", "early", "RARE/", "source-1", "nothing" }) do
        for _, time in ipairs(TIMES) do
          for _, types in ipairs(TYPES) do
            local query = { scenario_ref = scenario, after_seq = scenario == "early" and 3 or 0, limit = 400,
              bytes = 1000000, types = types or nil, after_ms = time.after_ms, before_ms = time.before_ms }
            local expected = plainly(query)
            local found, total = paged(query)
            local asked = json.encode(query)
            assert.same(expected, found, asked)
            assert.equal(#expected, total, asked)
          end
        end
      end
    end)

    it(way .. " are counted as far as that, or all", function()
      for name, value in pairs(kept) do scenario_events[name] = changes[name] or value end
      scenario_events.COUNTED = 15
      local query = { scenario_ref = "pack", after_seq = 0, limit = 5, bytes = 1 }
      assert.equal(15, assert(event_search.page(db, "default", query)).total)
      query.exact = true
      assert.equal(#plainly(query), assert(event_search.page(db, "default", query)).total)
    end)
  end

  for way, changes in pairs(WAYS) do check(way, changes) end

  describe("whose entries know their events", function()
    setup(function()
      assert.equal(0, known())
      for _, text in ipairs(KNOWN) do assert(db:query(text, { RUNS, n = 1 })) end
      assert.is_true(known() > RUNS / 2)
      assert.same({}, assert(db:query([[select e.run_id, t.type, t.n from run_entries e
        cross join lateral unnest(e.types, e.counts) t (type, n)
        where t.n <> (select count(*) from run_events_canonical c where c.tenant = e.tenant and c.run_id = e.run_id
          and c.type = t.type)]])).rows)
    end)

    for way, changes in pairs(WAYS) do check(way, changes) end

    it("of many runs are read of the first ones only, where these have a page and enough of them", function()
      for name, value in pairs(kept) do scenario_events[name] = value end
      scenario_events.FIRST, scenario_events.COUNTED = 40, 60
      local asked, whole = 0, 0
      local observed = setmetatable({}, { __index = function(_, name)
        return function(_, given, ...)
          if name == "batch" and given[#given][1]:find("with chosen", 1, true) then asked = asked + 1 end
          return db[name](db, given, ...)
        end
      end })
      for from = 0, 300, 20 do
        for _, types in ipairs(TYPES) do
          local query = { scenario_ref = "pack", after_seq = 0, limit = 10, bytes = 1000000, types = types or nil,
            after_ms = from > 0 and FIRST_MS + from * MINUTE_MS or nil }
          local expected = plainly(query)
          local before = asked
          local page, err = event_search.page(observed, "default", query)
          if page == nil then error(err.message) end
          if asked == before + 1 then whole = whole + 1 end
          local found = {}
          for i, row in ipairs(page.rows) do
            found[i] = row.run_id .. " " .. string.format("%d", row.seq) .. " " .. row.document
          end
          assert.same({ unpack(expected, 1, query.limit + 1) }, found, json.encode(query))
          assert.equal(math.min(#expected, 60), page.total, json.encode(query))
        end
      end
      assert.is_true(whole > 10 and asked > 16 * #TYPES, whole .. " " .. asked)
    end)
  end)
end)
