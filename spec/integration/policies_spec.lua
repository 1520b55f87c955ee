-- `macp policies check`: what a runtime would say about policy files.

local fs = require("host.fs")

local program = require("spec.support.program")

describe("macp policies check", function()
  local dir

  before_each(function() dir = assert(fs.temp_dir("macp-policies-check-")) end)
  after_each(function() fs.remove_tree(dir) end)

  local function check(...)
    local proc = program.start({ args = { "policies", "check", ... }, env = { MACP_POLICIES_DIR = false } })
    local status = proc:wait()
    return status.code, proc:output()
  end

  local function write(name, text) assert(fs.write(dir .. "/" .. name, text)) end

  it("names what is fine, what is not and why, and what may be meant differently", function()
    write("a.json", '{"policy_id":"policy.a.b","mode":"macp.mode.decision.v1","schema_version":2,'
      .. '"rules":{"voting":{"algorithm":"majority"}}}')
    local code, text = check(dir)
    assert.equal(0, code)
    assert.equal("OK        " .. dir .. "/a.json: policy.a.b for macp.mode.decision.v1\nWARNING   " .. dir
      .. "/a.json: rules.voting.algorithm: does not bind an empty tally: a commitment without votes passes", text)
    write("b.json", '{"policy_id":"policy.a.b","mode":"*","schema_version":3,"rules":{}}')
    write("c.json", '{\n "policy_id": "policy.a.c",\n "mode": "*"\n "rules": {}}')
    write("d.json", '{"policy_id":"policy.a.d","mode":"macp.mode.decision.v1","schema_version":3,'
      .. '"rules":{"voting":{"algorithm":"weightd","threshold":2}}}')
    code, text = check(dir)
    assert.equal(1, code)
    for _, line in ipairs({
      '/b.json: policy_id "policy.a.b" is already registered by a.json',
      "/c.json: line 4, column 2: ',' or '}' is expected",
      '/d.json: rules.voting.algorithm: expected one of none, majority, supermajority, unanimous, weighted, plurality, '
        .. 'got "weightd" (did you mean "weighted"?)',
      "/d.json: rules.voting.threshold: expected a number above 0 and at most 1, got 2",
    }) do
      assert.truthy(text:find("REJECTED  " .. dir .. line, 1, true), line .. "\n" .. text)
    end
  end)

  it("takes single files, and is strict when asked", function()
    write("q.json", '{"policy_id":"policy.a.q","mode":"macp.mode.quorum.v1","schema_version":3,'
      .. '"rules":{"commitment":{"require_vote_quorum":false}}}')
    local code, text = check(dir .. "/q.json")
    assert.equal(0, code, text)
    code, text = check("--strict", dir .. "/q.json")
    assert.equal(1, code)
    assert.truthy(text:find("REJECTED  " .. dir .. "/q.json: rules.commitment.require_vote_quorum: belongs to another",
      1, true), text)
  end)

  it("finds nothing in the examples", function()
    local code, text = check("examples/policies")
    assert.equal(0, code)
    assert.equal("OK        examples/policies/judge.json: policy.example.judge for *\n"
      .. "OK        examples/policies/two-thirds.json: policy.example.two-thirds for macp.mode.decision.v1", text)
  end)

  it("says when there is nothing, and what cannot be read", function()
    local code, text = check(dir)
    assert.equal(0, code)
    assert.equal("WARNING   " .. dir .. ": no *.json file inside", text)
    code, text = check(dir .. "/none.json")
    assert.equal(1, code)
    assert.truthy(text:find("REJECTED  " .. dir .. "/none.json: open ", 1, true), text)
    assert.equal(3, (check()))
  end)
end)
