-- host.pg and a server that says nothing: its processes are stopped, its connections stay. Nothing waits longer than the
-- limit, and what was asked is never done twice.

local fs = require("host.fs")
local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local postgres = require("spec.support.postgres")
local processes = require("spec.support.processes")

local LIMIT_MS = 600 -- of a statement and of the silence behind it, together

describe("host.pg and a server that says nothing", function()
  local cluster, pool

  local function open(extra)
    local opts = { conninfo = cluster:conninfo("postgres"), size = 4, statement_timeout_ms = LIMIT_MS - 200,
      silence_timeout_ms = 200, acquire_timeout_ms = 2000, connect_timeout_ms = 2000 }
    for name, value in pairs(extra or {}) do opts[name] = value end
    pool = assert(pg.open(opts))
  end

  local function freeze() processes.freeze(cluster:pid()) end
  local function thaw() processes.thaw(cluster:pid()) end

  setup(function()
    cluster = postgres.start()
    open()
    assert(pool:query("create table kept (id int primary key)"))
    pool:close()
  end)
  teardown(function() cluster:stop() end)
  before_each(function() open() end)
  after_each(function()
    thaw()
    pool:close()
  end)

  it("gives up the connection of a stopped backend, and serves others meanwhile", function()
    local _, err = pool:tx(function(tx)
      local pid = assert(tx:query("select pg_backend_pid() as pid")).rows[1].pid
      processes.signal("STOP", pid)
      local asked = task.spawn(function() return tx:query("select 1") end)
      assert(pool:query("select 2"))
      local rows, problem = asked:join()
      processes.signal("CONT", pid)
      return rows, problem
    end)
    assert.equal("UNAVAILABLE", err.code)
    assert.matches("^PostgreSQL has said nothing for %d+ ms", err.message)
    assert(pool:query("select 3"))
  end)

  it("fails everything that waits for a stopped server, and works again when that goes on", function()
    local unit = pool:unit()
    unit:add("select 1")
    assert(unit:commit_on(1))
    assert(pool:query("select 1"))
    freeze()
    local waiting = {
      task.spawn(function() return pool:query("select 1") end),
      task.spawn(function() return unit:commit_on(1) end),
      task.spawn(function() return pool:tx(function(tx) return tx:query("select 1") end) end),
    }
    for _, each in ipairs(waiting) do
      local _, err = each:join()
      assert.is_true(err.code == "UNAVAILABLE" or err.code == "TIMEOUT", err.message)
    end
    local _, err = pool:query("select 1")
    assert.is_true(err.code == "UNAVAILABLE" or err.code == "TIMEOUT", err.message)
    thaw()
    eventually(function() return pool:query("select 1") end, 5000)
    eventually(function() return unit:commit_on(1) end, 5000)
  end)

  it("listens on another connection when the backend that told nothing is stopped", function()
    local sub = assert(pool:listen("quiet"))
    local pid = assert(pool:query("select pid from pg_stat_activity where query like 'listen%'")).rows[1].pid
    processes.signal("STOP", pid)
    assert.same({ reset = true }, sub:next())
    processes.signal("CONT", pid)
    assert(pool:query("select pg_notify('quiet', 'again')"))
    assert.same({ payload = "again" }, sub:next())
    sub:close()
  end)

  it("says of a commit that it may have been done; done again, it is there once", function()
    local unit = pool:unit()
    unit:add("select pg_backend_pid()")
    assert(unit:commit_on(1))
    local pid = assert(pool:query(
      "select pid from pg_stat_activity where query like '%pg_backend_pid%' and pid <> pg_backend_pid()")).rows[1].pid
    processes.signal("STOP", pid)
    local store = pool:unit()
    store:add("insert into kept values (1)")
    local ok, err = store:commit_on(1)
    assert.is_nil(ok)
    assert.is_true(err.maybe_done)
    processes.signal("CONT", pid) -- it goes on, and may still do what it was asked
    local again, why = store:commit_on(1)
    assert(again or why.sqlstate == "23505", why and why.message)
    eventually(function()
      return #assert(pool:query("select from pg_stat_activity where pid = $1", { pid })).rows == 0
    end, 5000)
    assert.equal(1, assert(pool:query("select count(*)::int as n from kept where id = 1")).rows[1].n)
  end)

  it("waits for no answer to what cancels statements: neither loop nor files do", function()
    local dir = assert(fs.temp_dir("macp-silence"))
    task.group(function(group) -- as many connections as there may be
      for _ = 1, 4 do
        group:spawn(function()
          return pool:tx(function() return eventually(function() return pool:stats().leased == 4 end) end)
        end)
      end
    end)
    freeze()
    local cancelled = {}
    for i = 1, 8 do
      cancelled[i] = task.spawn(function() return task.with_deadline(20, pool.query, pool, "select pg_sleep(9)") end)
    end
    for i = 1, 8 do assert.is_nil((cancelled[i]:join())) end
    local began = sys.mono_ms()
    for i = 1, 16 do assert(fs.write(dir .. "/" .. i, "x", { sync = false })) end
    assert.is_true(sys.mono_ms() - began < LIMIT_MS * 10)
    eventually(function() return pool:stats().open == 0 end, 5000) -- given up, though nobody waits
    pool:close()
    thaw()
    open()
    eventually(function() return pool:query("select 1") end, 5000)
    fs.remove_tree(dir)
  end)

  it("does not mistake its own sleep for the server's", function()
    pool:close()
    open({ statement_timeout_ms = 500, silence_timeout_ms = 250 })
    assert(pool:query("select 1"))
    local asked = task.spawn(function() return pool:query("select 7 as v") end)
    task.sleep(0)
    local until_ms = sys.mono_ms() + 1200
    while sys.mono_ms() < until_ms do end -- the loop stands still; the answer is in the socket
    assert.equal(7, assert(asked:join()).rows[1].v)
  end)
end)
