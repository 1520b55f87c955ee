local child = require("host.child")

describe("host.child", function()
  it("runs a program and reports its exit code", function()
    local proc = assert(child.spawn({ file = "/bin/sh", args = { "-c", "exit 7" } }))
    assert.same({ code = 7 }, proc:wait())
    proc:close()
  end)

  it("pipes its streams, line by line and in pieces", function()
    local proc = assert(child.spawn({
      file = "sh", args = { "-c", "read x; echo got $x; echo oops >&2; printf tail" },
      stdin = "pipe", stdout = "pipe", stderr = "pipe",
    }))
    assert(proc:write("hello\n"))
    proc:close_stdin()
    assert.equal("got hello", proc:read_line("stdout"))
    assert.equal("tail", proc:read_line("stdout"))
    assert.is_nil(proc:read_line("stdout"))
    assert.equal("oops\n", proc:read("stderr"))
    proc:wait()
    proc:close()
  end)

  it("passes its own environment and directory", function()
    local proc = assert(child.spawn({
      file = "/bin/sh", args = { "-c", "echo $A; pwd" }, env = { A = "b c" }, cwd = "/", stdout = "pipe",
    }))
    assert.equal("b c", proc:read_line("stdout"))
    assert.equal("/", proc:read_line("stdout"))
    proc:wait()
    proc:close()
  end)

  it("kills by name and reports the signal", function()
    local proc = assert(child.spawn({ file = "sleep", args = { "60" } }))
    assert(proc:kill("KILL"))
    assert.equal(9, proc:wait().signal)
    assert.equal("NOT_FOUND", select(2, proc:kill()).code)
    proc:close()
  end)

  it("reports a program that does not exist", function()
    local proc, err = child.spawn({ file = "/no/such/program" })
    assert.is_nil(proc)
    assert.equal("NOT_FOUND", err.code)
    assert.matches("/no/such/program", err.message)
  end)

  it("bounds what it keeps of a talkative program", function()
    local proc = assert(child.spawn({ file = "sh", args = { "-c", "head -c 3000000 /dev/zero" }, stdout = "pipe" }))
    local total = 0
    for piece in function() return proc:read("stdout") end do total = total + #piece end
    assert.equal(3000000, total)
    proc:wait()
    proc:close()
  end)
end)
