local fs = require("host.fs")

local config = require("macp.config")
local storage = require("macp.runtime.storage")

local redis = require("spec.support.redis")
local stores = require("spec.support.stores")

local function settings(env) return assert(config.load(env)).runtime end

describe("the store", function()
  local dir

  before_each(function() dir = assert(fs.temp_dir("macp-storage-")) end)
  after_each(function() fs.remove_tree(dir) end)

  it("is created where the settings say, with an archive beside the journal", function()
    local cfg = settings({ MACP_DATA_DIR = dir .. "/deep/data" })
    local store = assert(storage.open(cfg))
    assert(store.journal:append("a", "1"))
    assert(store.archive:put("sha256:1", { ["mode.lua"] = "return {}" }, {}))
    store.journal:close()
    store = assert(storage.open(cfg))
    assert.equal(1, store.journal:count("a"))
    assert.same({ ["mode.lua"] = "return {}" }, store.archive:get("sha256:1"))
    assert.equal(dir .. "/deep/data", store.where)
    store.journal:close()
  end)

  it("leaves nothing behind when it is kept in memory", function()
    local store = assert(storage.open(settings({ MACP_MEMORY_ONLY = "1", MACP_DATA_DIR = dir .. "/data" })))
    assert(store.journal:append("a", "1"))
    store.journal:close()
    assert.is_nil(fs.stat(dir .. "/data"))
  end)

  it("is refused while somebody else has it open", function()
    local cfg = settings({ MACP_DATA_DIR = dir })
    local store = assert(storage.open(cfg))
    local second, err = storage.open(cfg)
    assert.is_nil(second)
    assert.matches("^open the journal in " .. dir:gsub("%p", "%%%0") .. ": ", err.message)
    store.journal:close()
  end)

  it("names the setting of a directory that cannot be made", function()
    assert(fs.write(dir .. "/file", "x"))
    local _, err = storage.open(settings({ MACP_DATA_DIR = dir .. "/file/data" }))
    assert.matches("^MACP_DATA_DIR " .. dir:gsub("%p", "%%%0") .. "/file/data: ", err.message)
  end)

  it("is a RocksDB beside the archive, or where MACP_ROCKSDB_PATH says", function()
    local places = {
      [dir .. "/data/rocksdb"] = { MACP_DATA_DIR = dir .. "/data" },
      [dir .. "/other/place"] = { MACP_DATA_DIR = dir .. "/data", MACP_ROCKSDB_PATH = dir .. "/other/place" },
    }
    for where, env in pairs(places) do
      env.MACP_STORAGE_BACKEND = "rocksdb"
      local store, err = storage.open(settings(env))
      if #stores.absent() > 0 then
        assert.equal("open the journal in " .. where .. ": journal: this program was built without RocksDB "
          .. "(librocksdb-dev was not there)", err.message)
        return
      end
      assert(store, err and err.message)
      assert.equal(where, store.where)
      assert(store.journal:wait((store.journal:append("a", "1"))))
      store.journal:close()
      assert.truthy(fs.stat(where .. "/CURRENT"))
      store = assert(storage.open(settings(env)))
      assert.equal(1, store.journal:count("a"))
      store.journal:close()
    end
  end)

  it("is Redis with MACP_REDIS_URL, sessions and modes apart, nothing of it in the data directory", function()
    if not redis.is_built() then
      local store, err = storage.open(settings({ MACP_DATA_DIR = dir, MACP_STORAGE_BACKEND = "redis" }))
      assert.is_nil(store)
      assert.equal("open the journal in redis://127.0.0.1:6379: journal: this program was built without Redis: "
        .. "install hiredis (Debian: libhiredis-dev) and build again", err.message)
      return
    end
    local server = redis.start()
    local cfg = settings({ MACP_DATA_DIR = dir, MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = server.url })
    local files, document = { ["mode.lua"] = "return {}", ["lib/a.lua"] = "\0\255" }, { format = 1, modes = {} }
    local store = assert(storage.open(cfg))
    assert.equal(server.url, store.where)
    assert.is_nil(store.registered:load())
    assert.equal("NOT_FOUND", select(2, store.archive:get("sha256:1")).code)
    assert(store.journal:wait((store.journal:append("a", "1"))))
    assert(store.archive:put("sha256:1", files, { id = "x" }))
    assert(store.archive:put("sha256:1", {}, {}))
    assert(store.registered:save(document))
    store:close()
    store = assert(storage.open(cfg))
    assert.same({ "a" }, store.journal:keys())
    assert.same(files, (store.archive:get("sha256:1")))
    assert.equal(1, store.registered:load().format)
    store:close()
    assert.same({}, fs.list(dir))
    server:stop()
  end)

  local with_redis = redis.is_built() and it or pending
  with_redis("is told with the address of a Redis that does not answer, without its password", function()
    local _, err = storage.open(settings({
      MACP_DATA_DIR = dir, MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = "redis://ann:s3cret@127.0.0.1:1/3",
    }))
    assert.equal("open the journal in redis://ann:********@127.0.0.1:1/3: Redis at redis://127.0.0.1:1/3: connect: "
      .. "Connection refused", err.message)
    _, err = storage.open(settings({
      MACP_DATA_DIR = dir, MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = "rediss://ann:s3cret@127.0.0.1:1",
    }))
    assert.equal("open the journal in rediss://ann:********@127.0.0.1:1: Redis at rediss://127.0.0.1:1/0: connect: "
      .. "Connection refused", err.message)
  end)
end)
