-- Lists of runs against the plain statement that says what they are: random runs, random filters, every way of finding
-- them. Limits that only large databases reach are lowered.

local pg = require("host.pg")

local json = require("macp.core.json")
local migrate = require("macp.store.migrate")
local run_list = require("macp.store.run_list")
local scenarios = require("macp.store.scenarios")

local postgres = require("spec.support.postgres")

local RUNS = 4000
local QUERIES = 150
local SEED = 20261

-- The i-th run: what it is depends on i alone. Some are over, some late; most things of the first half occur in no other.
local FILL = [[
insert into runs (tenant, id, status, mode, runtime_kind, source_ref, environment, scenario_ref, tags, metadata,
  created_at, updated_at, ended_at, archived_at)
select case when i % 11 = 0 then 'other' else 'default' end, md5('r' || i)::uuid, status,
  case when r[1] % 9 = 0 then 'sandbox' else 'live' end, 'rust',
  case when r[2] % 5 > 0 then 'source-' || r[2] % 7 end,
  case when r[3] % 6 > 0 then (array['production', 'staging', 'old', repeat('x', 1200), 'a/b'])[
    1 + (r[3] + case when i < $1 / 2 then 2 else 0 end) % 5] end,
  case when r[4] % 4 > 0 then 'pack-' || r[4] % 5 || '/Scenario_' || r[5] % 40 || '%@1' end,
  case when r[6] % 5 = 0 then '[]' when r[6] % 5 = 1 then jsonb_build_array('team-' || r[7] % 6)
    else jsonb_build_array('team-' || r[7] % 6, case when i < $1 / 2 then 'early' else 'la"te' end,
      'x-' || r[8] % 90) end,
  jsonb_build_object('executionRequest', jsonb_build_object('session', jsonb_build_object('modeName',
    'mode-' || r[9] % 3, 'policyVersion', 'policy-' || r[10] % 30)))
    || case when r[11] % 2 = 0 then jsonb_build_object('modeName', 'mode-' || r[9] % 3) else '{}' end,
  at, at + took, case when status in ('completed', 'failed', 'cancelled') then at + took end,
  case when r[12] % 13 = 0 then at + interval '1 day' end
from (
  select i, r, date_trunc('second', timestamptz '2026-03-01' + i / 3 * interval '7 minutes') as at,
    (array['completed', 'completed', 'completed', 'failed', 'failed', 'cancelled', 'running', 'suspended'])[
      1 + case when r[13] % 25 > 0 then r[14] % 6 else 6 + r[14] % 2 end] as status,
    case when r[15] % 17 = 0 then interval '5 days' when r[15] % 31 = 0 then interval '-2 minutes'
      else r[16] % 3600 * interval '1 second' end as took
  from generate_series(1, $1::int) i
  cross join lateral (select array_agg(('x' || substr(md5(i || ':' || n), 1, 7))::bit(28)::int) as r
    from generate_series(1, 16) n) random
) made]]

local VALUES = {
  status = { "completed", "failed", "cancelled", "suspended", "queued" },
  environment = { "production", "staging", "old", "nowhere", ("x"):rep(1200), "a/b" },
  scenario_ref = { "pack-1", "scenario_7%", "source-3", "_", "nothing" },
  search = { "TEAM-3", "scenario_1", "policy-7", "old", "la\\\"te", "nothing", "e" },
  mode_name = { "mode-0", "mode-1", "mode-9" },
}
local TAGS = { { "team-1" }, { "early" }, { "la\"te" }, { "team-2", "early" }, { "early", "la\"te" }, { "x-5" },
  { "no" } }
local FIRST_MS = 1772323200000 -- 2026-03-01
local SPAN_MS = RUNS / 3 * 7 * 60000

local random = { state = SEED }
function random.upto(n)
  random.state = (random.state * 1103515245 + 12345) % 2147483648
  return math.floor(random.state / 65536) % n + 1
end

local function pick(list) return list[random.upto(#list)] end

-- A query with about `chance` in 8 of each filter.
local function random_query(chance)
  local query = { include_sandbox = random.upto(2) == 1, include_archived = random.upto(2) == 1,
    sort_by = pick({ "createdAt", "updatedAt" }), sort_order = pick({ "asc", "desc" }), limit = pick({ 1, 20, 50 }),
    offset = pick({ 0, 0, 0, 7, 100, 900 }) }
  for _, name in ipairs({ "status", "environment", "scenario_ref", "search", "mode_name" }) do
    if random.upto(8) <= chance then query[name] = pick(VALUES[name]) end
  end
  if random.upto(8) <= chance then query.tags = json.encode(json.array(pick(TAGS))) end
  if random.upto(8) <= chance then query.created_after_ms = FIRST_MS + SPAN_MS / 16 * random.upto(15) end
  if random.upto(8) <= chance then query.created_before_ms = FIRST_MS + SPAN_MS / 16 * random.upto(15) end
  return query
end

local function escaped(text) return "%" .. text:gsub("[\\%%_]", "\\%0") .. "%" end

-- What the list is, as one condition; its parameters.
local function plainly(query)
  local where, params = { "tenant = 'default'" }, { n = 0 }
  local function add(condition, value)
    params.n = params.n + 1
    params[params.n] = value
    where[#where + 1] = (condition:gsub("%?", "$" .. params.n))
  end
  if not query.include_sandbox then where[#where + 1] = "mode <> 'sandbox'" end
  if not query.include_archived then where[#where + 1] = "archived_at is null" end
  if query.status then add("status = ?", query.status) end
  if query.environment then add("environment = ?", query.environment) end
  if query.scenario_ref then add("scenario_ref ilike ?", escaped(query.scenario_ref)) end
  if query.scenario_ref then
    add("", query.scenario_ref)
    where[#where] = nil
    where[#where] = "(" .. where[#where] .. " or source_ref = $" .. params.n .. ")"
  end
  if query.search then add(scenarios.SEARCHED .. " ilike ?", escaped(query.search)) end
  if query.mode_name then add("metadata #>> '{executionRequest,session,modeName}' = ?", query.mode_name) end
  if query.tags then add("tags @> ?::jsonb", query.tags) end
  if query.created_after_ms then add("created_at > ?", pg.ts(query.created_after_ms)) end
  if query.created_before_ms then add("created_at < ?", pg.ts(query.created_before_ms)) end
  return table.concat(where, " and "), params
end

describe("a list of runs", function()
  local stop, db
  local limits = { COUNT_MAX = 500, FOUND_MAX = 30, WINDOW = 300 }
  local kept = {}

  setup(function()
    local url
    url, stop = postgres.database()
    db = assert(pg.open({ conninfo = url, size = 2 }))
    assert(migrate.run(db))
    assert(db:query(FILL, { RUNS, n = 1 }))
    assert(db:query("vacuum (analyze) runs"))
    for name, value in pairs(limits) do kept[name], run_list[name] = run_list[name], value end
  end)
  teardown(function()
    for name, value in pairs(kept) do run_list[name] = value end
    db:close()
    stop()
  end)

  local function compare(query)
    local where, params = plainly(query)
    local column = query.sort_by == "createdAt" and "created_at" or "updated_at"
    local expected = assert(db:query("select id from runs where " .. where .. " order by " .. column .. " "
      .. query.sort_order .. ", id " .. query.sort_order .. " limit " .. query.limit .. " offset " .. query.offset,
      params)).rows
    local total = assert(db:query("select count(*) as n from runs where " .. where, params)).rows[1].n
    local page, page_err = run_list.page(db, "default", query)
    if page == nil then error(json.encode(query) .. ": " .. page_err.message) end
    local function ids(rows)
      local out = {}
      for i, row in ipairs(rows) do out[i] = row.id end
      return out
    end
    local asked = json.encode(query)
    assert.same(ids(expected), ids(page.rows), asked)
    if page.total then
      assert.equal(total, page.total, asked)
    else
      assert.is_true(total > limits.COUNT_MAX or page.estimate ~= nil, asked)
    end
    assert.equal(total, assert(run_list.count(db, "default", query)), asked)
    return total
  end

  for chance, name in ipairs({ "few filters", "some filters", "many filters" }) do
    it("is what a plain statement finds, with " .. name, function()
      local found = 0
      for _ = 1, QUERIES do
        if compare(random_query(chance)) > 0 then found = found + 1 end
      end
      assert.is_true(found > QUERIES / 10, "only " .. found .. " found anything")
    end)
  end
end)
