-- grpc_js.js against the real program. Optional: NODE_PATH names the folder of its packages, see README.md.

local child = require("host.child")
local fs = require("host.fs")
local sys = require("host.sys")

local acceptance = require("spec.support.acceptance")

local PACKAGES = { "@grpc/grpc-js", "@grpc/proto-loader", "protobufjs" }

-- Whether one of the folders of a search path has all the names. (yields)
local function has(path, names)
  for folder in (path or ""):gmatch("[^:]+") do
    local count = 0
    for _, name in ipairs(names) do count = count + (fs.stat(folder .. "/" .. name) and 1 or 0) end
    if count == #names then return true end
  end
  return false
end

describe("the protocol over grpc-js", function()
  local is_there = has(sys.env("PATH"), { "node" }) and has(sys.env("NODE_PATH"), PACKAGES)
  local optional = is_there and it or pending

  optional("works as the TypeScript SDK uses it", function()
    local at = acceptance.start()
    local proc = assert(child.spawn({
      file = "node", args = { "spec/interop/grpc_js.js", at.address, "proto" }, stdout = "pipe", stderr = "null",
      env = { PATH = sys.env("PATH"), NODE_PATH = sys.env("NODE_PATH") },
    }))
    local parts = {}
    for part in function() return proc:read("stdout") end do parts[#parts + 1] = tostring(part) end
    local status = proc:wait()
    proc:close()
    at:stop()
    local said = table.concat(parts)
    assert.equal(0, status.code, said)
    assert.equal(17, select(2, said:gsub("ok     ", "")), said)
  end)
end)
