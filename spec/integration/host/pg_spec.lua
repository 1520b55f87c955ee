-- host.pg against a real server. Uses the database of TEST_DATABASE_URL or a private cluster.

local child = require("host.child")
local fs = require("host.fs")
local json = require("host.json")
local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local dev_postgres = require("macp.dev.postgres")
local eventually = require("spec.support.eventually")
local postgres = require("spec.support.postgres")

describe("host.pg", function()
  local conninfo, stop, pool

  setup(function() conninfo, stop = postgres.database() end)
  teardown(function() stop() end)

  local function open(extra)
    local opts = { conninfo = conninfo, size = 4 }
    for k, v in pairs(extra or {}) do opts[k] = v end
    pool = assert(pg.open(opts))
    return pool
  end

  local function value(text, ...)
    local result = assert(pool:query(text, { n = select("#", ...), ... }))
    local row = result.rows[1]
    return row and row.v
  end

  before_each(function() open() end)
  after_each(function()
    pool:close()
    pool = nil
  end)

  describe("values", function()
    it("come back with the type of their column", function()
      local row = assert(pool:query([[select 1::int2 as i2, -2::int4 as i4, 9007199254740992::int8 as i8,
        9007199254740993::int8 as big, 1.5::float4 as f4, 0.1::float8 as f8, 'NaN'::float8 as nan,
        12.50::numeric as num, 123456789012345678.5::numeric as exact, true as t, false as f,
        '\x00ff41'::bytea as b, ''::bytea as nothing, '2026-01-31 23:59:59.123+02'::timestamptz as ts,
        '1969-12-31 23:59:59.5Z'::timestamptz as early, 'infinity'::timestamptz as never,
        '{"a": 1}'::jsonb as j, array[1,2] as a, 'text'::text as s, '00000000-0000-0000-0000-000000000001'::uuid as u,
        null::int4 as missing, date '2026-02-03' as d]])).rows[1]
      assert.equal(1, row.i2)
      assert.equal(-2, row.i4)
      assert.equal(9007199254740992, row.i8)
      assert.equal("9007199254740993", row.big)
      assert.equal(1.5, row.f4)
      assert.equal(0.1, row.f8)
      assert.is_true(row.nan ~= row.nan)
      assert.equal(12.5, row.num)
      assert.equal("123456789012345678.5", row.exact)
      assert.is_true(row.t)
      assert.is_false(row.f)
      assert.equal("\0\255A", row.b)
      assert.equal("", row.nothing)
      assert.equal(1769896799123, row.ts)
      assert.equal(-500, row.early)
      assert.equal(math.huge, row.never)
      assert.equal('{"a": 1}', row.j)
      assert.equal("{1,2}", row.a)
      assert.equal("text", row.s)
      assert.equal("00000000-0000-0000-0000-000000000001", row.u)
      assert.is_nil(row.missing)
      assert.equal("2026-02-03", row.d)
    end)

    it("go in as they are", function()
      assert.equal(7, value("select $1::int4 as v", 7))
      assert.equal(-9007199254740992, value("select $1::int8 as v", -9007199254740992))
      assert.equal(0.1, value("select $1::float8 as v", 0.1))
      assert.equal(1 / 3, value("select $1::float8 as v", 1 / 3))
      assert.equal(math.huge, value("select $1::float8 as v", math.huge))
      assert.is_true(value("select $1::bool as v", true))
      assert.is_nil(value("select $1::text as v", nil))
      assert.is_nil(value("select $1::text as v", json.null))
      assert.equal("it's \\ \"fine\" $1", value("select $1::text as v", "it's \\ \"fine\" $1"))
      assert.equal("\0\1\255", value("select $1::bytea as v", pg.bytea("\0\1\255")))
      assert.equal("\0x", value("select $1::bytea as v", require("host.bytes").new("\0x")))
      assert.equal(1769903999123, value("select $1::timestamptz as v", pg.ts(1769903999123)))
      assert.equal(-1, value("select $1::timestamptz as v", pg.ts(-1)))
      assert.equal("0001-01-01", value("select to_char($1::timestamptz, 'YYYY-MM-DD') as v", pg.ts(-62135596800000)))
      assert.equal('{a,"b,c",NULL,"say \\"x\\" \\\\"}',
        value("select $1::text[] as v", pg.array({ "a", "b,c", json.null, 'say "x" \\' })))
      assert.equal(6, value("select (select sum(x) from unnest($1::int[]) x)::int as v", pg.array({ 1, 2, 3 })))
      assert.equal("{}", value("select $1::text[] as v", pg.array({})))
    end)

    it("may be large", function()
      local big = ("0123456789abcdef"):rep(65536)
      assert.equal(big, value("select $1::text as v", big))
      assert.equal(big, value("select $1::bytea as v", pg.bytea(big)))
    end)

    it("are refused when they have no SQL form", function()
      local _, err = pool:query("select $1::text", { "a\0b" })
      assert.equal("INVALID", err.code)
      assert.has_error(function() pool:query("select $1", { {} }) end)
      assert.has_error(function() pool:query("select $1", { print }) end)
      assert.equal("INVALID", select(2, pool:query("select $1::text[]", { pg.array({ {} }) })).code)
    end)

    it("keep every row and column of a large result", function()
      local result = assert(pool:query([[select i, i * 2 as twice, repeat('x', i % 50) as s
        from generate_series(1, 5000) i]]))
      assert.equal(5000, #result.rows)
      assert.equal(5000, result.n)
      for i, row in ipairs(result.rows) do
        if row.i ~= i or row.twice ~= 2 * i or #row.s ~= i % 50 then error("row " .. i .. " is wrong") end
      end
    end)
  end)

  describe("query", function()
    it("tells how many rows were changed", function()
      assert(pool:query("create temporary table counted (a int)"))
      assert.equal(3, assert(pool:query("insert into counted select * from generate_series(1, $1)", { 3 })).n)
      assert.equal(2, assert(pool:query("update counted set a = 0 where a > 1")).n)
      assert.same({ rows = {}, n = 0 }, assert(pool:query("select a from counted where a > 5")))
      assert(pool:query("drop table counted"))
    end)

    it("reports what the server said", function()
      assert(pool:query("create table strict (id int primary key, a int constraint positive check (a > 0))"))
      assert(pool:query("insert into strict values (1, 1)"))
      local _, err = pool:query("insert into strict values (1, 2)")
      assert.equal("PG", err.code)
      assert.equal("23505", err.sqlstate)
      assert.equal("strict_pkey", err.constraint)
      assert.equal("strict", err.table)
      assert.matches("Key (id)=(1) already exists", err.detail, 1, true)
      _, err = pool:query("insert into strict values (2, $1)", { -1 })
      assert.equal("23514", err.sqlstate)
      assert.equal("positive", err.constraint)
      _, err = pool:query("select nonsense from strict")
      assert.equal("42703", err.sqlstate)
      assert.equal(8, err.position)
      assert.matches("nonsense", err.message)
      _, err = pool:query("select $1::int", { "abc" })
      assert.equal("22P02", err.sqlstate)
      assert(pool:query("drop table strict"))
    end)

    it("reports the same for a bad text every time, also when several are in flight", function()
      local states = {}
      task.group(function(group)
        for i = 1, 6 do
          group:spawn(function()
            local _, err = pool:query("selec 1")
            states[i] = err.sqlstate
          end)
        end
      end)
      assert.same({ "42601", "42601", "42601", "42601", "42601", "42601" }, states)
      assert.equal("42601", select(2, pool:query("selec 1")).sqlstate)
      assert.equal(1, value("select 1 as v"))
    end)

    it("prepares a statement again when its result type has changed", function()
      assert(pool:query("create table shifting (a int)"))
      assert(pool:query("select * from shifting"))
      assert(pool:query("alter table shifting add b text"))
      local first, err = pool:query("select * from shifting")
      if not first then assert.equal("0A000", err.sqlstate) end
      assert(pool:query("select * from shifting"))
      assert(pool:query("drop table shifting"))
    end)

    it("forgets the least recently used of many statements", function()
      for i = 1, 600 do assert.equal(i, value(("select %d as v, 'distinct %d'"):format(i, i))) end
      assert.equal(1, value("select 1 as v, 'distinct 1'"))
      local known = value("select count(*)::int as v from pg_prepared_statements")
      assert.is_true(known <= 257, "the server knows " .. known)
    end)

    it("times out slow statements and waits for locks", function()
      pool:close()
      open({ statement_timeout_ms = 100, lock_timeout_ms = 50 })
      local _, err = pool:query("select pg_sleep(5)")
      assert.equal("57014", err.sqlstate)
      assert(pool:query("create table locked (a int)"))
      local waited
      assert(pool:tx(function(tx)
        assert(tx:query("lock table locked"))
        waited = select(2, pool:query("select * from locked"))
        return true
      end))
      assert.equal("55P03", waited.sqlstate)
      assert(pool:query("drop table locked"))
    end)

    it("limits the size of results and survives it", function()
      pool:close()
      open({ max_result_bytes = 100000, size = 1 })
      local _, err = pool:query("select repeat('x', 1000) from generate_series(1, 1000000)")
      assert.equal("LIMIT", err.code)
      assert.equal(1, value("select 1 as v"))
    end)

    it("sets the session up", function()
      assert.equal("UTC", value("select current_setting('timezone') as v"))
      assert.equal("macp", value("select current_setting('application_name') as v"))
      assert.equal("30s", value("select current_setting('statement_timeout') as v"))
      assert.equal("5s", value("select current_setting('lock_timeout') as v"))
      assert.equal("30s", value("select current_setting('idle_in_transaction_session_timeout') as v"))
      assert.equal("on", value("select current_setting('standard_conforming_strings') as v"))
    end)

    it("is cancelled with its task, on the server too", function()
      local started = sys.mono_ms()
      local sleeper = task.spawn(function() return pool:query("select pg_sleep(20) /* cancel me */") end)
      eventually(function()
        return value([[select count(*)::int as v from pg_stat_activity
          where query like '%cancel me%' and query not like '%pg_stat%']]) == 1
      end)
      sleeper:cancel()
      local result, err = sleeper:join()
      assert.is_nil(result)
      assert.equal("CANCELLED", err.code)
      eventually(function()
        return value([[select count(*)::int as v from pg_stat_activity
          where state = 'active' and query like '%cancel me%' and query not like '%pg_stat%']]) == 0
      end)
      assert.is_true(sys.mono_ms() - started < 10000)
      local ok, late = task.with_deadline(50, function() return pool:query("select pg_sleep(20)") end)
      assert.is_nil(ok)
      assert.equal("TIMEOUT", late.code)
      for i = 1, 20 do assert.equal(i, value("select $1::int as v", i)) end
    end)

    it("does not let neighbours suffer from a cancelled one", function()
      pool:close()
      open({ size = 1 })
      assert.equal(1, value("select 1 as v"))
      local answers = {}
      task.group(function(group)
        for i = 1, 30 do
          group:spawn(function()
            local one = task.spawn(function() return pool:query("select pg_sleep(0.002)") end)
            task.sleep(i % 5)
            one:cancel()
            one:join()
          end)
          group:spawn(function()
            answers[i] = assert(pool:query("select $1::int as v", { i })).rows[1].v
          end)
        end
      end)
      for i = 1, 30 do assert.equal(i, answers[i]) end
    end)
  end)

  describe("batch", function()
    it("is one transaction that tells which statement failed", function()
      assert(pool:query("create table batched (a int unique)"))
      local results = assert(pool:batch({
        { "insert into batched values ($1), ($2)", { 1, 2 } },
        { "select a from batched order by a" },
        { "delete from batched where a = $1", { 1 } },
      }))
      assert.equal(2, results[1].n)
      assert.same({ { a = 1 }, { a = 2 } }, results[2].rows)
      assert.equal(1, results[3].n)
      local failed, err = pool:batch({
        { "insert into batched values (10)" },
        { "insert into batched values (2)" },
        { "insert into batched values (11)" },
      })
      assert.is_nil(failed)
      assert.equal(2, err.index)
      assert.equal("23505", err.sqlstate)
      assert.equal(1, value("select count(*)::int as v from batched"))
      assert.same({}, assert(pool:batch({})))
      assert(pool:query("drop table batched"))
    end)
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
      local slow = task.spawn(function() return pool:query("select pg_sleep(1)") end)
      task.sleep(20)
      local started = sys.mono_ms()
      for _ = 1, 5 do assert.equal(1, value("select 1 as v")) end
      assert.is_true(sys.mono_ms() - started < 900)
      assert(slow:join())
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
    task.sleep(100)
    local busy = assert(pool:query([[select pid from pg_stat_activity
      where query like '%pg_sleep%' and pid <> pg_backend_pid()]]))
    assert.is_true(#busy.rows == 1 and busy.rows[1].pid ~= pid)
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
