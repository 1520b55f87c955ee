-- host.pg against a real server: notifications, the pool, and a server that goes away. Uses the database of TEST_DATABASE_URL or a private cluster.

local child = require("host.child")
local fs = require("host.fs")
local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local dev_postgres = require("macp.dev.postgres")
local eventually = require("spec.support.eventually")
local pg_pool = require("spec.support.pg_pool")
local postgres = require("spec.support.postgres")

describe("host.pg: connections", function()
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

  describe("listen", function()
    it("delivers notifications of its channel in order", function()
      local sub = assert(pool:listen("spec chan\"nel"))
      local other = assert(pool:listen("other"))
      for i = 1, 3 do assert(pool:query("select pg_notify($1, $2)", { 'spec chan"nel', "p" .. i })) end
      assert(pool:query("select pg_notify('other', '')"))
      for i = 1, 3 do assert.same({ payload = "p" .. i }, sub:next()) end
      assert.same({ payload = "" }, other:next())
      local waiting = task.spawn(function() return sub:next() end)
      task.sleep(5)
      assert(pool:query("select pg_notify($1, 'late')", { 'spec chan"nel' }))
      assert.same({ payload = "late" }, waiting:join())
      local doomed = task.spawn(function() return sub:next() end)
      task.sleep(5)
      doomed:cancel()
      assert.equal("CANCELLED", select(2, doomed:join()).code)
      sub:close()
      assert.equal("CLOSED", select(2, sub:next()).code)
      other:close()
    end)

    it("reconnects and says so", function()
      local sub = assert(pool:listen("again"))
      local listeners = "from pg_stat_activity where datname = current_database() and query like 'listen%'"
      eventually(function() return value("select count(*)::int as v " .. listeners) == 1 end)
      assert(pool:query("select pg_terminate_backend(pid) " .. listeners))
      assert.same({ reset = true }, sub:next())
      assert(pool:query("select pg_notify('again', 'back')"))
      assert.same({ payload = "back" }, sub:next())
      sub:close()
    end)

    it("ends with the pool", function()
      local sub = assert(pool:listen("ending"))
      local waiting = task.spawn(function() return sub:next() end)
      task.sleep(5)
      pool:close()
      assert.equal("CLOSED", select(2, waiting:join()).code)
      sub:close()
      open()
    end)
  end)

  describe("the pool", function()
    it("connects when needed and shares connections", function()
      assert.equal(0, pool:stats().open)
      assert.equal(1, value("select 1 as v"))
      assert.equal(1, pool:stats().open)
      local sum = 0
      task.group(function(group)
        for i = 1, 200 do
          group:spawn(function()
            local v = value("select $1::int as v", i)
            sum = sum + v
          end)
        end
      end)
      assert.equal(200 * 201 / 2, sum)
      assert.is_true(pool:stats().open <= 4)
      assert.equal(0, pool:stats().in_flight)
    end)

    it("does not queue quick statements behind a slow one", function()
      assert.equal(1, value("select 1 as v"))
      local slow = task.spawn(function() return pool:query("select pg_sleep(60)") end)
      task.sleep(20)
      local started = sys.mono_ms()
      for _ = 1, 5 do assert.equal(1, value("select 1 as v")) end
      assert.is_true(sys.mono_ms() - started < 50000)
      slow:cancel()
      assert.equal("CANCELLED", select(2, slow:join()).code)
    end)

    it("closes idle connections but one", function()
      pool:close()
      open({ idle_close_ms = 300 })
      task.group(function(group)
        for _ = 1, 4 do
          group:spawn(function()
            assert(pool:tx(function() return eventually(function() return pool:stats().leased == 4 end) end))
          end)
        end
      end)
      eventually(function() return pool:stats().open == 1 end)
      assert.equal(1, value("select 1 as v"))
    end)

    it("is fair to a transaction among many queries", function()
      pool:close()
      open({ size = 1 })
      local running, order = true, {}
      task.group(function(group)
        for _ = 1, 8 do
          group:spawn(function() while running do assert(pool:query("select 1")) end end)
        end
        group:spawn(function()
          for i = 1, 5 do
            assert(pool:tx(function(tx) return tx:query("select 1") end))
            order[i] = true
          end
          running = false
        end)
      end)
      assert.equal(5, #order)
    end)

    it("survives killed connections", function()
      local victim = task.spawn(function() return pool:query("select pg_sleep(20) /* victim */") end)
      local find = "from pg_stat_activity where query like '%victim%' and query not like '%pg_stat%'"
      eventually(function() return value("select count(*)::int as v " .. find) == 1 end)
      assert(pool:query("select pg_terminate_backend(pid) " .. find))
      local result, err = victim:join()
      assert.is_nil(result)
      assert.equal("UNAVAILABLE", err.code)
      assert.equal("57P01", err.sqlstate)
      local killed = select(2, pool:tx(function(tx)
        local pid = assert(tx:query("select pg_backend_pid() as v")).rows[1].v
        assert(pool:query("select pg_terminate_backend($1)", { pid }))
        task.sleep(20)
        return tx:query("select 1")
      end))
      assert.equal("UNAVAILABLE", killed.code)
      assert.equal(1, value("select 1 as v"))
    end)

    it("knows which units were committed when connections are killed at random", function()
      assert(pool:query("create table acked (id bigint, part int)"))
      local outcome, running, id = {}, true, 0
      task.group(function(group)
        for slot = 1, 2 do
          group:spawn(function()
            while running do
              local u = pool:unit()
              id = id + 1
              local mine = id
              for part = 1, 5 do u:add("insert into acked values ($1, $2)", mine, part) end
              local ok, err = u:commit_on(slot)
              outcome[mine] = ok and "yes" or err.maybe_done and "maybe" or "no"
              if not ok then task.sleep(5) end
            end
          end)
        end
        group:spawn(function()
          for i = 1, 30 do
            task.sleep(10 + i)
            pool:query([[select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and query like 'insert into acked%' and pid <> pg_backend_pid()]])
          end
          running = false
        end)
      end)
      local stored = {}
      for _, row in ipairs(assert(pool:query("select id, count(*)::int as n from acked group by id")).rows) do
        stored[row.id] = row.n
      end
      local counts = { yes = 0, no = 0, maybe = 0 }
      for i, what in ipairs(outcome) do
        counts[what] = counts[what] + 1
        local n = stored[i] or 0
        if what == "yes" then assert.equal(5, n) elseif what == "no" then assert.equal(0, n) end
        assert.is_true(n == 0 or n == 5, "a unit is whole or not there")
      end
      assert.is_true(counts.yes > 20 and counts.no + counts.maybe > 5)
      assert(pool:query("drop table acked"))
    end)

    it("names a server that is not there", function()
      pool:close()
      open({ conninfo = "host=/nowhere/at/all dbname=x" })
      local _, err = pool:query("select 1")
      assert.equal("UNAVAILABLE", err.code)
      assert.matches("/nowhere/at/all", err.message, 1, true)
      local u = pool:unit()
      u:add("select 1")
      assert.equal("UNAVAILABLE", select(2, u:commit_on(1)).code)
      assert.equal("UNAVAILABLE", select(2, pool:listen("x")).code)
      assert.equal("UNAVAILABLE", select(2, pool:tx(function() return true end)).code)
      assert.equal("UNAVAILABLE", select(2, pg.ping("host=127.0.0.1 port=1 dbname=x")).code)
      assert.is_true(pg.ping(conninfo))
      local elsewhere = conninfo:gsub("dbname=%S+", "") .. " dbname=no_such_database"
      assert.equal("UNAVAILABLE", select(2, pg.ping(elsewhere)).code)
    end)

    it("fails what is in flight when it is closed", function()
      local slow = task.spawn(function() return pool:query("select pg_sleep(10)") end)
      task.sleep(50)
      pool:close()
      assert.equal("CLOSED", select(2, slow:join()).code)
      assert.has_error(function() pool:query("select 1") end)
      open()
    end)
  end)
end)

describe("host.pg and a server that goes away", function()
  local dir, cluster, pool

  setup(function()
    dir = assert(fs.temp_dir("macp-pg"))
    assert(fs.chmod(dir, 493)) -- 0755: the server's account must pass
    cluster = assert(dev_postgres.start({ dir = dir }))
  end)
  teardown(function()
    cluster:stop()
    fs.remove_tree(dir)
  end)
  after_each(function() pool:close() end)

  it("fails what is in flight and works again after a restart", function()
    pool = pg.open({ conninfo = cluster:conninfo("postgres"), size = 3 })
    local sub = assert(pool:listen("restart"))
    assert(pool:query("create table kept (a int)"))
    local u = pool:unit()
    u:add("insert into kept values (1)")
    assert(u:commit_on(1))
    local slow = task.spawn(function() return pool:query("select pg_sleep(30)") end)
    task.sleep(50)
    cluster:stop()
    assert.equal("UNAVAILABLE", select(2, slow:join()).code)
    assert.equal("UNAVAILABLE", select(2, pool:query("select 1")).code)
    assert.equal("UNAVAILABLE", select(2, u:commit_on(1)).code)
    cluster = assert(dev_postgres.start({ dir = dir }))
    eventually(function() return pool:query("select 1") end)
    eventually(function() return u:commit_on(1) end)
    assert.equal(2, #assert(pool:query("select a from kept")).rows)
    assert.same({ reset = true }, sub:next())
    assert(pool:query("select pg_notify('restart', 'hello')"))
    assert.same({ payload = "hello" }, sub:next())
    sub:close()
  end)

  it("tells a commit whose outcome is unknown from one that failed", function()
    pool = pg.open({ conninfo = cluster:conninfo("postgres"), size = 3 })
    assert(pool:query("select 1"))
    local pid = assert(pool:tx(function(tx)
      return assert(tx:query("select pg_backend_pid() as pid")).rows[1].pid
    end))
    local u = pool:unit()
    u:add("select pg_sleep(0.2)")
    u:add("select pg_sleep(30)")
    local commit = task.spawn(function() return u:commit_on(1) end)
    local busy = eventually(function()
      local found = assert(pool:query([[select pid from pg_stat_activity
        where query like '%pg_sleep%' and pid <> pg_backend_pid()]]))
      return #found.rows == 1 and found
    end)
    assert.is_true(busy.rows[1].pid ~= pid)
    local killed = assert(child.spawn({ file = "/bin/kill", args = { "-9", tostring(busy.rows[1].pid) } }))
    killed:wait()
    killed:close()
    local ok, err = commit:join()
    assert.is_nil(ok)
    assert.equal("UNAVAILABLE", err.code)
    assert.is_true(err.maybe_done)
    eventually(function() return pool:query("select 1") end, 10000)
  end)
end)
