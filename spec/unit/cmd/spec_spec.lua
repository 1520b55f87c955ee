local child = require("host.child")
local fs = require("host.fs")
local sys = require("host.sys")

-- Runs `macp spec` in a process of its own on a file with this text.
local function run_spec(text, ...)
  local dir = assert(fs.temp_dir("macp-spec"))
  assert(fs.write(dir .. "/sample_spec.lua", text))
  local process = assert(child.spawn({
    file = sys.executable(), args = { "spec", dir, ... }, stdout = "pipe", stderr = "pipe",
  }))
  local out, err = {}, {}
  for piece in function() return process:read("stdout") end do out[#out + 1] = piece end
  for piece in function() return process:read("stderr") end do err[#err + 1] = piece end
  local outcome = process:wait()
  fs.remove_tree(dir)
  return outcome.code, table.concat(out), table.concat(err)
end

describe("macp spec", function()
  it("ends with 0 when all tests pass, waiting ones included", function()
    local code, out = run_spec([[
      local task = require("host.task")
      it("waits", function() assert.is_true(task.sleep(5)) end)
    ]])
    assert.equal(0, code)
    assert.truthy(out:find("1 success", 1, true))
  end)

  it("is told in one line when there is nothing of a name", function()
    local process = assert(child.spawn({ file = sys.executable(), args = { "spec", "none/of_this" }, stderr = "pipe" }))
    local said = {}
    for piece in function() return process:read("stderr") end do said[#said + 1] = piece end
    assert.equal(3, process:wait().code)
    assert.truthy(table.concat(said):find("none/of_this: no such file or folder", 1, true))
  end)

  local failing = {
    { "a failed test", 'it("fails", function() assert.equal(1, 2) end)', "Failure" },
    { "a file that does not load", 'error("broken")', "broken" },
    { "a syntax error", "it(", "Error" },
    { "a failing teardown", 'teardown(function() error("late") end) it("ok", function() end)', "late" },
  }
  for _, case in ipairs(failing) do
    it("ends with 1 after " .. case[1], function()
      local code, out = run_spec(case[2])
      assert.equal(1, code)
      assert.truthy(out:find(case[3], 1, true), out)
    end)
  end

  it("fails a file that leaves a task behind", function()
    local text = [[
      it("forgets a task", function() require("host.task").spawn(function() require("host.task").sleep(60000) end) end)
    ]]
    local code, out = run_spec(text)
    assert.equal(1, code)
    assert.truthy(out:find("leaves behind: ", 1, true) and out:find("1 task", 1, true), out)
  end)

  it("names a test that hangs", function()
    local code, _, err = run_spec([[
      describe("outer", function() it("hangs", function() require("host.task").sleep(60000) end) end)
    ]], "--timeout", "100")
    assert.equal(1, code)
    assert.truthy(err:find("`outer hangs` takes longer than 100 ms", 1, true), err)
  end)

  local two = 'it("first", function() end) it("second", function() error("x") end)'

  it("runs the tests that match", function()
    local code, out = run_spec(two, "--filter", "fir")
    assert.equal(0, code)
    assert.truthy(out:find("1 success", 1, true))
    assert.equal(0, (run_spec(two, "--filter-out", "second")))
  end)

  it("speaks TAP", function()
    local _, out = run_spec(two, "-o", "TAP")
    assert.truthy(out:find("ok 1 - first", 1, true))
    assert.truthy(out:find("not ok 2 - second", 1, true))
    assert.truthy(out:find("1..2", 1, true))
  end)

  it("lists tests without running them", function()
    local code, out = run_spec(two, "--list")
    assert.equal(0, code)
    assert.truthy(out:find("first", 1, true) and out:find("second", 1, true))
  end)

  describe("--jobs", function()
    -- Runs `macp spec --jobs 2` over files by name.
    local function run_files(files, ...)
      local dir = assert(fs.temp_dir("macp-spec"))
      assert(fs.mkdir_p(dir .. "/deeper"))
      for name, text in pairs(files) do assert(fs.write(dir .. "/" .. name .. "_spec.lua", text)) end
      local process = assert(child.spawn({
        file = sys.executable(), args = { "spec", "--jobs", "2", dir, ... }, stdout = "pipe", stderr = "null",
      }))
      local out = {}
      for piece in function() return process:read("stdout") end do out[#out + 1] = piece end
      local outcome = process:wait()
      fs.remove_tree(dir)
      return outcome.code, table.concat(out)
    end

    it("runs files side by side and adds their results up", function()
      local wait = 'it("w", function() require("host.task").sleep(300) end) it("more", function() end)'
      local code, out = run_files({ a = wait, b = wait, ["deeper/c"] = wait })
      assert.equal(0, code, out)
      assert.truthy(out:find("6 successes / 0 failures / 0 errors / 0 pending", 1, true), out)
      for _, name in ipairs({ "a", "b", "deeper/c" }) do assert.truthy(out:find(name .. "_spec.lua", 1, true), out) end
    end)

    it("shows the whole report of a file that fails, and ends with 1", function()
      local good = 'it("g", function() end)'
      local code, out = run_files({ good = good, bad = 'it("b", function() assert.equal(1, 2) end)' })
      assert.equal(1, code)
      assert.truthy(out:find("bad_spec.lua  FAILED (exit status 1)", 1, true), out)
      assert.truthy(out:find("Expected objects to be equal", 1, true), out)
      assert.truthy(out:find("1 successes / 1 failures / 0 errors / 0 pending", 1, true), out)
      assert.truthy(out:find("2 files, 1 of them failed", 1, true), out)
    end)

    it("says at the very end again what failed, where the end of a log is all that is kept", function()
      local bad = ('it("b%d", function() assert.equal(1, %d) end)\n'):rep(12):gsub("%%d", "2")
      local code, out = run_files({ a = bad, b = 'it("x", function() error("the reason") end)', c = "syntax error" })
      assert.equal(1, code)
      local last = out:match("\nslowest: [^\n]*\n(.*)$")
      for _, name in ipairs({ "a", "b", "c" }) do
        assert.truthy(last:find("failed: [^\n]*" .. name .. "_spec.lua %(exit status 1%)"), last)
      end
      for _, words in ipairs({ "Failure ->", "Error ->", "the reason", "expected near", "lines more" }) do
        assert.truthy(last:find(words, 1, true), last)
      end
      assert.is_true(select(2, last:gsub("\n", "")) < 100, last)
    end)

    it("ends with 1 when a file's process is killed, and goes on with the others", function()
      local code, out = run_files({
        a = 'it("dies", function() require("host.sys").abort(7) end)', b = 'it("lives", function() end)',
      })
      assert.equal(1, code)
      assert.truthy(out:find("a_spec.lua  FAILED (exit status 7)", 1, true), out)
      assert.truthy(out:find("1 successes", 1, true), out)
    end)

    it("runs what failed once more with --alone, and tells both", function()
      local dir = assert(fs.temp_dir("macp-spec-once"))
      local once = ([[it("fails once", function()
        local fs = require("host.fs")
        if not fs.stat("%s/met") then
          assert(fs.write("%s/met", ""))
          error("the crowd")
        end
      end)]]):format(dir, dir)
      local code, out = run_files({ once = once, good = 'it("g", function() end)' }, "--alone")
      assert.equal(0, code, out)
      assert.truthy(out:find("2 successes / 0 failures / 0 errors / 0 pending", 1, true), out)
      assert.truthy(out:find("passed alone, failed beside others: [^\n]*once_spec.lua.*the crowd"), out)
      code, out = run_files({ bad = 'it("b", function() error("always") end)', once = once }, "--alone")
      assert.equal(1, code)
      assert.truthy(out:find("failed: [^\n]*bad_spec.lua"), out)
      fs.remove_tree(dir)
    end)

    it("runs nothing again when many failed: that is no crowd", function()
      local files, bad = {}, 'it("b", function() error("always") end)'
      for i = 1, 6 do files["bad" .. i] = bad end
      local code, out = run_files(files, "--alone")
      assert.equal(1, code)
      assert.equal(6, select(2, out:gsub("FAILED", "")))
    end)

    it("passes the other options on", function()
      local code, out = run_files({ a = two, b = two }, "--filter", "fir")
      assert.equal(0, code, out)
      assert.truthy(out:find("2 successes / 0 failures", 1, true), out)
    end)

    it("adds repetitions up, and begins no file after a failure when told so", function()
      local good, bad = 'it("g", function() end)', 'it("b", function() error("x") end)'
      local code, out = run_files({ a = good, b = good }, "--repeat", "3")
      assert.equal(0, code, out)
      assert.truthy(out:find("6 successes / 0 failures", 1, true), out)
      local files = { a = bad, b = bad }
      for i = 1, 9 do files["c" .. i] = good end
      code, out = run_files(files, "--fail-fast")
      assert.equal(1, code)
      assert.is_nil(out:find("c9_spec", 1, true), out)
    end)

    it("refuses what it cannot report", function()
      assert.equal(3, (run_files({ a = two }, "--output", "TAP")))
      assert.equal(3, (run_files({ a = two }, "--list")))
      assert.equal(3, (run_files({ a = two }, "--jobs", "0")))
      assert.equal(3, (run_files({ a = two }, "--jobs", "1", "--alone")))
    end)

    it("ends with 1 when there is no file", function()
      assert.equal(1, (run_files({})))
    end)
  end)
end)
