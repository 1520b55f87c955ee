-- host.pg against a real server: transactions. Uses the database of TEST_DATABASE_URL or a private cluster.

local pg = require("host.pg")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local pg_pool = require("spec.support.pg_pool")
local postgres = require("spec.support.postgres")

describe("host.pg: transactions", function()
  local conninfo, stop, pool

  setup(function() conninfo, stop = postgres.database() end)
  teardown(function() stop() end)

  local function open(extra)
    pool = pg_pool.open(conninfo, extra)
    return pool
  end

  local function value(...) return pg_pool.value(pool, ...) end

  before_each(function() open() end)
  after_each(function()
    pool:close()
    pool = nil
  end)

  describe("tx", function()
    before_each(function() assert(pool:query("create table tt (a int unique deferrable initially deferred)")) end)
    after_each(function() assert(pool:query("drop table tt")) end)

    local function count() return value("select count(*)::int as v from tt") end

    it("commits and returns what the function returns", function()
      local a, b = pool:tx(function(tx)
        assert(tx:query("insert into tt values (1)"))
        assert(tx:batch({ { "insert into tt values (2)" }, { "insert into tt values ($1)", { 3 } } }))
        return "x", 2
      end)
      assert.equal("x", a)
      assert.equal(2, b)
      assert.equal(3, count())
    end)

    it("rolls back on nil, err and on an error", function()
      local result, err = pool:tx(function(tx)
        assert(tx:query("insert into tt values (1)"))
        return nil, { code = "NO" }
      end)
      assert.is_nil(result)
      assert.equal("NO", err.code)
      assert.has_error(function()
        pool:tx(function(tx)
          assert(tx:query("insert into tt values (1)"))
          error({ code = "RAISED" })
        end)
      end)
      assert.equal(0, count())
    end)

    it("does not report success when a statement failed", function()
      local ok, err = pool:tx(function(tx)
        assert(tx:query("insert into tt values (1)"))
        tx:query("select 1/0")
        return true
      end)
      assert.is_nil(ok)
      assert.equal("25P02", err.sqlstate)
      assert.equal(0, count())
    end)

    it("reports what only the commit finds", function()
      local ok, err = pool:tx(function(tx)
        assert(tx:query("insert into tt values (1), (1)"))
        return true
      end)
      assert.is_nil(ok)
      assert.equal("23505", err.sqlstate)
      local failed, why = pool:batch({ { "insert into tt values (5)" }, { "insert into tt values (5)" } })
      assert.is_nil(failed)
      assert.equal("23505", why.sqlstate)
      assert.equal(2, why.index)
      assert.equal(0, count())
    end)

    it("has its connection alone", function()
      pool:close()
      open({ size = 1, acquire_timeout_ms = 100 })
      local err
      assert(pool:tx(function(tx)
        assert(tx:query("select 1"))
        err = select(2, pool:query("select 1"))
        return true
      end))
      assert.equal("TIMEOUT", err.code)
      assert.matches("1 of 1", err.message)
      assert.equal(1, value("select 1 as v"))
    end)

    it("rolls back when its task is cancelled", function()
      local doomed = task.spawn(function()
        return pool:tx(function(tx)
          assert(tx:query("insert into tt values (1)"))
          assert(tx:query("select pg_sleep(20)"))
          return true
        end)
      end)
      task.sleep(50)
      doomed:cancel()
      doomed:join()
      eventually(function() return pool:stats().leased == 0 end)
      assert.equal(0, count())
    end)

    it("is over after the function", function()
      local kept
      assert(pool:tx(function(tx)
        kept = tx
        return true
      end))
      assert.has_error(function() kept:query("select 1") end)
    end)

    it("takes scripts of several statements", function()
      assert(pool:tx(function(tx)
        assert(tx:script("insert into tt values (1); insert into tt values (2); create table scripted (a int)"))
        assert(tx:query("insert into tt values (3)"))
        return true
      end))
      assert.equal(3, count())
      local _, err = pool:script("drop table scripted; select 1/0; insert into tt values (9)")
      assert.equal("22012", err.sqlstate)
      assert.equal(3, count())
      assert.is_true(pool:script("drop table scripted; delete from tt"))
      assert.equal(0, count())
    end)
  end)

  describe("unit", function()
    before_each(function() assert(pool:query("create table uu (id bigint primary key, a text, b bytea)")) end)
    after_each(function() assert(pool:query("drop table uu")) end)

    it("collects statements and commits them together", function()
      local u = pool:unit()
      for i = 1, 300 do assert(u:add("insert into uu values ($1, $2, $3)", i, "row " .. i, pg.bytea("\0" .. i))) end
      assert.equal(300, u:count())
      assert.is_true(u:size() > 3000)
      assert.is_true(u:commit())
      assert.equal(300, value("select count(*)::int as v from uu"))
      assert.equal("\000" .. "300", value("select b as v from uu where id = 300"))
      u:clear()
      assert.equal(0, u:count())
      u:add("update uu set a = $2 where id = $1", 1, nil)
      assert.is_true(u:commit_on(1))
      assert.is_nil(value("select a as v from uu where id = 1"))
    end)

    it("names the statement that failed and keeps its content", function()
      local u = pool:unit()
      u:add("insert into uu (id) values ($1)", 1)
      u:add("insert into uu (id) values ($1)", 2)
      u:add("insert into uu (id) values ($1)", 2)
      local ok, err = u:commit_on(2)
      assert.is_nil(ok)
      assert.equal(3, err.index)
      assert.equal("23505", err.sqlstate)
      assert.equal(0, value("select count(*)::int as v from uu"))
      assert.equal(3, u:count())
      assert.equal(3, select(2, u:commit()).index)
    end)

    it("keeps the order within a slot", function()
      assert(pool:query("insert into uu values (1, '')"))
      task.group(function(group)
        for i = 1, 40 do
          group:spawn(function()
            local u = pool:unit()
            u:add("update uu set a = a || $1 where id = 1", i .. ",")
            assert(u:commit_on(1))
          end)
        end
      end)
      local expected = {}
      for i = 1, 40 do expected[i] = i .. "," end
      assert.equal(table.concat(expected), value("select a as v from uu where id = 1"))
    end)

    it("refuses changes while it is being committed, and bad values", function()
      local u = pool:unit()
      u:add("select pg_sleep(0.05)")
      local committing = task.spawn(function() return u:commit() end)
      task.sleep(10)
      assert.has_error(function() u:add("select 1") end)
      assert.is_true(committing:join())
      u:clear()
      assert.equal("INVALID", select(2, u:add("select $1::text", "a\0")).code)
      assert.has_error(function() u:add("select $1", {}) end)
      assert.equal(0, u:count())
      u:add("insert into uu (id) values ($1)", 5)
      assert.is_true(u:commit())
      assert.equal(1, value("select count(*)::int as v from uu"))
    end)
  end)
end)
