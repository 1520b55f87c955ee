-- Names of revisions and of states must never change for the same content: archives and journals refer to them.

local source = require("macp.modes.source")
local modes = require("spec.support.modes")

local FILES = { ["mode.lua"] = "return {}\n", ["lib/a.lua"] = "return 1\n", ["lib/b.lua"] = "return 2\n",
  ["reducer.lua"] = 'local b = require "lib.b"\nreturn {}\n', ["fixtures/x.lua"] = "return {}\n" }

local function with(changes)
  local out = {}
  for name, text in pairs(FILES) do out[name] = text end
  for name, text in pairs(changes) do out[name] = text or nil end
  return out
end

describe("the hash of a folder", function()
  it("is the same in every process and release", function()
    assert.equal("sha256:eb41b501894514b74d0af9cacbf618467b40e670c5b4c90bd8778d003ebeb823", source.rules_hash(FILES))
  end)

  it("covers mode.lua and lib, their names and their lengths", function()
    local hash = source.rules_hash(FILES)
    assert.not_equal(hash, source.rules_hash(with({ ["mode.lua"] = "return { }\n" })))
    assert.not_equal(hash, source.rules_hash(with({ ["lib/a.lua"] = "return 3\n" })))
    assert.not_equal(hash, source.rules_hash(with({ ["lib/c.lua"] = "" })))
    assert.equal(hash, source.rules_hash(with({ ["reducer.lua"] = "return { }\n" })))
    assert.equal(hash, source.rules_hash(with({ ["fixtures/x.lua"] = "" })))
  end)

  it("of the presentation covers the libs it requires", function()
    local hash = source.presentation_hash(FILES)
    assert.equal(hash, source.presentation_hash(with({ ["lib/a.lua"] = "return 3\n" })))
    assert.not_equal(hash, source.presentation_hash(with({ ["lib/b.lua"] = "return 3\n" })))
    assert.not_equal(hash, source.presentation_hash(with({ ["webhook.lua"] = "return {}\n" })))
    assert.equal(hash, source.presentation_hash(with({ ["mode.lua"] = "return 5\n" })))
  end)
end)

describe("the hash of a state", function()
  it("is the same in every process and release", function()
    local rev = modes.build(modes.source())
    assert(rev:start("s", modes.start()))
    assert.equal("b396dd446d41648f64cfb92ab3b86661a6e8e4090fff43a791cdaeebaee31ede", rev:state_hash("s"))
    rev:submit("s", "Put", "ann", modes.encode(rev, "Put", { key = "k", n = 5 }), 1)
    assert.equal("dd562c7ca7a4ff742c3518907fe5bd6a70ddd8a1ba0f071c3e8425029f1bf4f1", rev:state_hash("s"))
    rev:close()
  end)
end)
