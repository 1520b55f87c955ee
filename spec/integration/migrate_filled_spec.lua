-- Migrations of the tables of runs over a database that holds runs already, and gets more meanwhile: filled at an earlier
-- schema, it is brought up to date while runs begin and end, and asked what it holds.

local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local migrate = require("macp.store.migrate")
local run_list = require("macp.store.run_list")

local many_runs = require("spec.support.many_runs")
local postgres = require("spec.support.postgres")

local RUNS = 1200
local FIRST = "0015" -- before lists were indexed for runs that have ended

local function up_to(number)
  local files = {}
  for _, file in ipairs(assert(migrate.files())) do
    if file.name:sub(1, 4) <= number then files[#files + 1] = file end
  end
  return files
end

-- The oldest, and the one before the last.
local function schemas()
  local files = assert(migrate.files())
  return { FIRST, files[#files - 1].name:sub(1, 4) }
end

local BEGIN = [[
insert into runs (tenant, id, status, mode, runtime_kind, environment, source_ref, scenario_ref, tags)
values ('default', gen_random_uuid(), 'running', 'live', 'rust', 'meanwhile', 'source-meanwhile',
  'pack-9/meanwhile@1.0.0', '["meanwhile"]') returning id]]
local END = "update runs set status = 'completed', ended_at = now(), updated_at = now() where id = $1"

for _, number in ipairs(schemas()) do
  describe("a database filled at schema " .. number, function()
    local stop, db, url, expected
    local begun, ended = 0, 0

    local function rows(text, ...) return assert(db:query(text, { n = select("#", ...), ... })).rows end

    -- Begins runs and ends every other one until `is_over`; at least a few.
    local function live_on(is_over)
      repeat
        local id = rows(BEGIN)[1].id
        begun = begun + 1
        if begun % 2 == 0 then
          rows(END, id)
          ended = ended + 1
        end
      until is_over() and begun >= 10
    end

    setup(function()
      url, stop = postgres.database()
      db = assert(pg.open({ conninfo = url, size = 4 }))
      assert(migrate.run(db, up_to(number)))
      many_runs.fill(db, { runs = RUNS, until_ms = sys.now_ms() })
      expected = rows("select count(*) as n from runs")[1].n
    end)
    teardown(function()
      db:close()
      stop()
    end)

    it("is brought up to date while runs begin and end", function()
      local names, err
      local migrating = task.spawn(function()
        local pool = assert(migrate.open(url, "spec"))
        names, err = migrate.run(pool)
        pool:close()
        names = names or false
      end)
      live_on(function() return names ~= nil end)
      migrating:join()
      assert.is_nil(err)
      assert.is_true(#names >= 1 and names[1]:sub(1, 4) > number)
      assert.same({}, rows("select indexrelid::regclass::text as name from pg_index where not indisvalid"))
      assert.equal(expected + begun, rows("select count(*) as n from runs")[1].n)
    end)

    it("finds every run by every index", function()
      local indexes = rows([[select c.relname as name, coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') as condition
        from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = 'runs'::regclass and c.relname like 'runs%' and not i.indisprimary
          and i.indpred is not null and c.relam = (select oid from pg_am where amname = 'btree')]])
      assert.is_true(#indexes >= 8)
      assert(db:tx(function(tx)
        assert(tx:query("set local enable_seqscan = off"))
        for _, index in ipairs(indexes) do
          local found = assert(tx:query("select count(*) as n from runs where tenant > '' and "
            .. index.condition)).rows
          local all = assert(tx:query("select count(*) as n from (select * from runs offset 0) r where "
            .. index.condition)).rows
          assert.same(all, found, index.name)
        end
        return true
      end))
    end)

    it("answers lists as if it had always been so", function()
      local function total(changes)
        local query = { include_sandbox = true, include_archived = true, sort_by = "createdAt", sort_order = "desc",
          limit = 200, offset = 0 }
        for key, value in pairs(changes) do query[key] = value end
        local page = assert(run_list.page(db, "default", query))
        assert.equal(math.min(200, page.total), #page.rows)
        return page.total
      end
      local function counted(condition) return rows("select count(*) as n from runs where " .. condition)[1].n end
      assert.equal(expected + begun, total({}))
      assert.equal(begun, total({ environment = "meanwhile" }))
      assert.equal(begun, total({ tags = '["meanwhile"]' }))
      assert.equal(begun, total({ scenario_ref = "MEANWHILE@" }))
      assert.equal(begun, total({ search = "Meanwhile@1" }))
      assert.equal(ended, total({ environment = "meanwhile", status = "completed" }))
      assert.equal(begun - ended, total({ tags = '["meanwhile"]', status = "running" }))
      assert.equal(counted("status = 'failed'"), total({ status = "failed" }))
      assert.equal(counted("status = 'failed' and environment = 'staging'"),
        total({ status = "failed", environment = "staging" }))
      assert.equal(counted([[tags @> '["team-3"]']]), total({ tags = '["team-3"]' }))
      assert.equal(counted("id in (select run_id from runtime_sessions where mode_name = 'macp.mode.task.v1')"),
        total({ mode_name = "macp.mode.task.v1" }))
      assert.equal(counted("source_ref = 'source-17'"), total({ scenario_ref = "source-17" }))
      assert.equal(counted("scenario_ref like '%scenario-77@%'"), total({ scenario_ref = "scenario-77@" }))
      assert.equal(counted("metadata::text like '%policy.team-250%'"), total({ search = "policy.team-250" }))
    end)
  end)
end
