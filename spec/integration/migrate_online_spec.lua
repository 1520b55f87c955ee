-- Migrations of a database that is in use: who waits for whom, and what an interruption leaves behind.

local pg = require("host.pg")
local task = require("host.task")

local migrate = require("macp.store.migrate")

local eventually = require("spec.support.eventually")
local postgres = require("spec.support.postgres")

local CONCURRENTLY = "-- migrate: concurrently\n"

describe("migrations of a database in use", function()
  local url, stop, db

  setup(function()
    url, stop = postgres.database()
    db = assert(pg.open({ conninfo = url, size = 4 }))
    assert(db:query("create table things (id bigint generated always as identity primary key, n bigint not null)"))
    assert(db:query("insert into things (n) select i from generate_series(1, 1000) i"))
  end)
  teardown(function()
    db:close()
    stop()
  end)

  local function file(name, text) return { name = name, text = text } end

  local function run(...)
    local pool = assert(migrate.open(url, "spec"))
    local names, err = migrate.run(pool, { ... })
    pool:close()
    return names, err
  end

  local function is_valid(name)
    local rows = assert(db:query("select indisvalid from pg_index where indexrelid = to_regclass($1)", { name })).rows
    return rows[1] and rows[1].indisvalid
  end

  local function waits_for(what)
    eventually(function()
      return assert(db:query("select 1 from pg_stat_activity where application_name = 'spec' and query like $1 "
        .. "and wait_event_type = 'Lock'", { what })).rows[1] ~= nil
    end, 20000, "a wait of " .. what)
  end

  it("build an index while the table is written to", function()
    local index = file("9001_a.sql", CONCURRENTLY
      .. "create index concurrently if not exists things_n_idx\n  on things (n);")
    local building, names
    local done = db:tx(function(tx)
      assert(tx:query("insert into things (n) values (0)"))
      building = task.spawn(function() names = run(index) end)
      waits_for("%create index%") -- for the transaction above
      assert(db:query("insert into things (n) values (-1)")) -- others go on
      return true
    end)
    assert.is_true(done)
    building:join()
    assert.same({ "9001_a.sql" }, names)
    assert.is_true(is_valid("things_n_idx"))
    assert.same({}, (assert(run(index))))
  end)

  it("build an index again that was interrupted", function()
    local index = file("9002_b.sql", CONCURRENTLY
      .. "create unique index concurrently if not exists things_id_n_idx on things (n);\nanalyze things;")
    assert(db:query("insert into things (n) values (7)"))
    local names, err = run(index)
    assert.is_nil(names)
    assert.truthy(err.message:find("migration 9002_b.sql, statement 1: could not create unique index", 1, true),
      err.message)
    assert.is_false(is_valid("things_id_n_idx"))
    assert(db:query("delete from things where n = 7 and id > 100"))
    assert.same({ "9002_b.sql" }, (assert(run(index))))
    assert.is_true(is_valid("things_id_n_idx"))
  end)

  it("drop an index without locking", function()
    assert.same({ "9003_c.sql" }, (assert(run(file("9003_c.sql", CONCURRENTLY
      .. "drop index concurrently if exists things_id_n_idx;")))))
    assert.is_nil(is_valid("things_id_n_idx"))
  end)

  it("refuse what cannot be repeated", function()
    local names, err = run(file("9004_d.sql", CONCURRENTLY .. "create index things_x on things (n);"))
    assert.is_nil(names)
    assert.truthy(err.message:find("migration 9004_d.sql, statement 1: only create index concurrently", 1, true))
    assert.truthy(err.message:find("got create index things_x", 1, true))
  end)

  it("change a table once it is free, and let others pass until then", function()
    local change = file("9005_e.sql", "alter table things add column extra text")
    local changing, names
    assert(db:tx(function(tx)
      assert(tx:query("insert into things (n) values (-2)"))
      changing = task.spawn(function() names = run(change) end)
      waits_for("%alter table%")
      assert(db:query("insert into things (n) values (-3)")) -- behind the change, until that gives up for a moment
      return true
    end))
    changing:join()
    assert.same({ "9005_e.sql" }, names)
  end)

  it("W40: are done by one process, while the others wait outside of any statement", function()
    local index = file("9006_f.sql", CONCURRENTLY
      .. "create index concurrently if not exists things_f_idx on things (id, n);")
    local applied, tasks = {}, {}
    assert(db:tx(function(tx)
      assert(tx:query("insert into things (n) values (-4)"))
      for i = 1, 3 do tasks[i] = task.spawn(function() applied[i] = #(run(index) or { 0, 0, 0 }) end) end
      waits_for("%create index%")
      return true
    end))
    for _, running in ipairs(tasks) do running:join() end
    table.sort(applied)
    assert.same({ 0, 0, 1 }, applied)
    assert.is_true(is_valid("things_f_idx"))
  end)

  it("leave nothing of a file that fails", function()
    local names, err = run(file("9007_g.sql", "create table half (id bigint);\nselect nothing;"))
    assert.is_nil(names)
    assert.truthy(err.message:find("migration 9007_g.sql, statement 2:", 1, true), err.message)
    assert.is_nil(assert(db:query("select to_regclass('half')::text as t")).rows[1].t)
  end)
end)
