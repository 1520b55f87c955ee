-- Pages of large events: whole, in order and compressed on demand, while only a piece of them is in memory.

local crypto = require("host.crypto")
local fetch = require("host.fetch")

local json = require("macp.core.json")

local events_store = require("macp.store.events")
local event_search = require("macp.store.event_search")

local event_lists = require("spec.support.event_lists")
local gunzip = require("spec.support.gunzip")
local plane_rig = require("spec.support.plane_rig")

local LARGE, SIZE = 24, 262144 -- several pieces
local PIECE = 1048576

-- Events with a type of their own, the documents as large as they can be.
local INSERT = [[
insert into run_events_canonical (tenant, run_id, seq, ts, type, document)
select 'default', $1::uuid, n, to_timestamp(1700000000 + n), 'ext.large',
  '{"id":"' || n || '","runId":"' || $1 || '","seq":' || n || ',"ts":"2023-11-14T22:13:20.000Z","type":"ext.large",'
  || '"data":{"text":"' || repeat('large text ', $4::int / 11) || '"}}'
from generate_series($2::bigint, $3::bigint) n]]

describe("pages of large events", function()
  local rig, id, first, last

  setup(function()
    rig = plane_rig.start({ env = { HTTP_COMPRESSION = "gzip" } })
    id = crypto.uuid4()
    rig:play(id)
    rig:await(id, "completed", 20000)
    first = rig:rows("select max(seq) + 1 as seq from run_events_canonical where run_id = $1", id)[1].seq
    last = first + LARGE - 1
    rig:rows(INSERT, id, first, last, SIZE)
  end)
  teardown(function() rig:destroy() end)

  local function get(path, accepted)
    local reply = assert(fetch.request({ url = rig.plane.url .. path, timeout_ms = 120000,
      headers = { ["accept-encoding"] = accepted or "identity" }, max_body_bytes = 16 * 1024 * 1024 }))
    assert.equal(200, reply.status, tostring(reply.body))
    return tostring(reply.body), reply.headers
  end

  -- The bytes of documents that each read brings while fn runs.
  local function reads_of(fn)
    local kept, reads = {}, {}
    local function watch(store, name, rows_of)
      local plain = store[name]
      kept[#kept + 1] = function() store[name] = plain end
      store[name] = function(...)
        local found, err = plain(...)
        local bytes = 0
        for _, row in ipairs(found and rows_of(found) or {}) do bytes = bytes + #(row.document or "") end
        reads[#reads + 1] = bytes
        return found, err
      end
    end
    local function all(rows) return rows end
    watch(events_store, "piece", all)
    watch(events_store, "documents", all)
    watch(events_store, "page", function(page) return page.rows end)
    watch(event_search, "page", function(page) return page.rows end)
    local ok, err = pcall(fn)
    for _, restore in ipairs(kept) do restore() end
    if not ok then error(err, 0) end
    return reads
  end

  local function numbers(from, to)
    local list = {}
    for n = from, to do list[#list + 1] = n end
    return list
  end

  it("are bounded in memory, and complete", function()
    for _, case in ipairs({
      { "/runs/" .. id .. "/events?limit=500&afterSeq=" .. first - 1, nil },
      { "/runs/" .. id .. "/events?limit=500&type=ext.large", { total = LARGE, limit = 500, nextCursor = last } },
      { "/events?limit=500&type=ext.large", { total = LARGE, limit = 500 } },
      { "/events?limit=20&type=ext.large&runId=" .. id, { total = LARGE, limit = 20, nextCursor = first + 19 } },
    }) do
      local text
      local reads = reads_of(function() text = get(case[1]) end)
      for _, bytes in ipairs(reads) do assert.is_true(bytes < PIECE + SIZE + 1024, case[1] .. ": " .. bytes) end
      local page = assert(json.decode(text))
      local list = page.data or page
      local count = math.min(case[2] and case[2].limit or LARGE, LARGE)
      assert.same(numbers(first, first + count - 1), event_lists.seqs(list))
      for _, event in ipairs(list) do assert.equal(SIZE - SIZE % 11, #event.data.text) end
      page.data, page.nextPageToken = nil, nil
      if case[2] then assert.same(case[2], page) end
    end
  end)

  it("go on behind a page that had to be read in pieces", function()
    local path = "/events?limit=21&type=ext.large"
    local page = assert(json.decode((get(path))))
    assert.same(numbers(first, first + 20), event_lists.seqs(page.data))
    local rest = assert(json.decode((get(path .. "&pageToken=" .. page.nextPageToken))))
    assert.same(numbers(first + 21, last), event_lists.seqs(rest.data))
    assert.is_nil(rest.nextPageToken)
  end)

  it("are compressed piece by piece for who accepts it", function()
    for _, path in ipairs({ "/runs/" .. id .. "/events?limit=500", "/runs/" .. id .. "/events?limit=5&type=ext.large",
      "/events?limit=5&type=ext.large" }) do
      local plain, plain_headers = get(path)
      local packed, headers = get(path, "gzip")
      assert.same({ nil, "gzip", nil }, { plain_headers["content-encoding"], headers["content-encoding"],
        headers["content-length"] })
      assert.equal("Origin, Accept-Encoding", headers.vary)
      assert.equal(headers.vary, plain_headers.vary)
      assert.is_true(#packed < #plain / 20, path)
      assert.is_true(gunzip(packed) == plain, path)
    end
  end)

  it("leave out what was deleted while they were read", function()
    local documents = events_store.documents
    events_store.documents = function(db, tenant, events)
      rig:rows("delete from run_events_canonical where run_id = $1 and seq between $2 and $3", id, first + 5, first + 6)
      return documents(db, tenant, events)
    end
    local text = get("/runs/" .. id .. "/events?limit=8&type=ext.large")
    events_store.documents = documents
    rig:rows(INSERT, id, first + 5, first + 6, SIZE)
    local left = event_lists.seqs(assert(json.decode(text)).data)
    assert.same({ first, first + 1, first + 2, first + 3, first + 4, first + 7 }, left)
  end)
end)
