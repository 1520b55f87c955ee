-- Hashes, identifiers and encodings against published values.

local crypto = require("host.crypto")

describe("host.crypto", function()
  it("hashes", function()
    assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", crypto.sha256_hex(""))
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", crypto.hex(crypto.sha256("abc")))
  end)

  it("computes HMAC for changing, equal and empty keys (RFC 4231)", function()
    local key, other = ("\11"):rep(20), "Jefe"
    local first = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    local second = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    for _ = 1, 2 do
      assert.equal(first, crypto.hmac_sha256_hex(key, "Hi There"))
      assert.equal(first, crypto.hex(crypto.hmac_sha256(key, "Hi There")))
      assert.equal(second, crypto.hmac_sha256_hex(other, "what do ya want for nothing?"))
      assert.equal("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad", crypto.hmac_sha256_hex("", ""))
    end
    assert.equal("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
      crypto.hmac_sha256_hex(("\170"):rep(131), "Test Using Larger Than Block-Size Key - Hash Key First"))
  end)

  it("makes random bytes", function()
    assert.equal(0, #crypto.random(0))
    assert.equal(32, #crypto.random(32))
    assert.not_equal(crypto.random(32), crypto.random(32))
    assert.has_error(function() crypto.random(-1) end)
  end)

  it("compares secrets", function()
    assert.is_true(crypto.equal("abc", "abc"))
    assert.is_false(crypto.equal("abc", "abd"))
    assert.is_false(crypto.equal("abc", "ab"))
    assert.is_true(crypto.equal("", ""))
  end)

  it("makes UUIDs of the right form", function()
    local form = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-V%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"
    assert.matches((form:gsub("V", "4")), crypto.uuid4())
    assert.matches((form:gsub("V", "7")), crypto.uuid7())
    assert.equal("2ed6657d-e927-568b-95e1-2665a8aea6a2",
      crypto.uuid5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com"))
    assert.has_error(function() crypto.uuid5("nonsense", "x") end, "the namespace is not a UUID")
  end)

  it("makes version 7 UUIDs that ascend and carry the time", function()
    local last = crypto.uuid7()
    for _ = 1, 10000 do
      local id = crypto.uuid7()
      assert(id > last, id .. " after " .. last)
      last = id
    end
    local ms = tonumber(last:sub(1, 8) .. last:sub(10, 13), 16)
    assert.is_true(math.abs(ms - os.time() * 1000) < 5000)
  end)

  it("encodes and decodes", function()
    local known = { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", ["\255\254"] = "//4=" }
    for text, encoded in pairs(known) do
      assert.equal(encoded, crypto.base64_encode(text))
      assert.equal(text, crypto.base64_decode(encoded))
      local url = encoded:gsub("=", ""):gsub("/", "_")
      assert.equal(url, crypto.base64url_encode(text))
      assert.equal(text, crypto.base64url_decode(url))
    end
    assert.equal("00ff10", crypto.hex("\0\255\16"))
    assert.equal("\0\255\16", crypto.unhex("00fF10"))
  end)

  local malformed = {
    { "base64_decode", "Zg" }, { "base64_decode", "Zg=" }, { "base64_decode", "Z" },
    { "base64_decode", "Zm9v=" },
    { "base64_decode", "Zm-v" }, { "base64_decode", "Zh==" }, { "base64_decode", "Zm 9" }, { "base64_decode", "====" },
    { "base64url_decode", "Zm+v" }, { "base64url_decode", "Z" }, { "base64url_decode", "Zg=" }, { "unhex", "0" },
    { "unhex", "0g" },
  }
  for _, case in ipairs(malformed) do
    it("refuses " .. case[1] .. " of " .. case[2], function()
      local value, err = crypto[case[1]](case[2])
      assert.is_nil(value)
      assert.equal("INVALID", err.code)
    end)
  end

  it("computes CRC-32C, also in pieces", function()
    assert.equal(0xE3069283, crypto.crc32c("123456789"))
    assert.equal(0xE3069283, crypto.crc32c("6789", crypto.crc32c("12345")))
    assert.equal(0, crypto.crc32c(""))
  end)
end)
