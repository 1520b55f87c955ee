-- What must not be seen: texts, base64 bytes, presets, and what stops the start.

local crypto = require("host.crypto")
local fs = require("host.fs")

local json = require("macp.core.json")
local redaction = require("macp.plane.redaction")

local function open(opts)
  return redaction.open({ patterns = opts.patterns or {}, file = opts.file, presets = opts.presets or {} })
end

describe("redaction", function()
  it("is off when nothing is asked for", function() assert.is_false(open({})) end)

  it("P43: reaches every text of a value, and bytes that travel as base64", function()
    local redactor = assert(open({ patterns = { "s3cret-\\d+" } }))
    local value = redactor:value({ note = "the s3cret-42!", count = 7, list = json.array({ "a", "s3cret-1" }),
      deep = { data = crypto.base64_encode('{"key":"s3cret-99"}'), plain = "c2hvcnQ=" } })
    assert.same({ note = "the [REDACTED]!", count = 7, list = { "a", "[REDACTED]" },
      deep = { data = crypto.base64_encode('{"key":"[REDACTED]"}'), plain = "c2hvcnQ=", redacted = true } }, value)
    assert.equal('{"a":1}', redactor:json('{"a":1}'))
    assert.equal('{"a":"[REDACTED]"}', redactor:json('{"a":"s3cret-5"}'))
  end)

  for name, cases in pairs({
    api_keys = { ["key sk-abcdefghijklmnop1234 end"] = "key [REDACTED] end", AKIAABCDEFGHIJKLMNOP = "[REDACTED]",
      ["Authorization: Bearer abcdefghijklmnop.qrs"] = "Authorization: [REDACTED]", ["a task-force"] = "a task-force" },
    email = { ["to ann.b@example.co.uk now"] = "to [REDACTED] now", ["a @ b"] = "a @ b" },
    ssn = { ["ssn 123-45-6789."] = "ssn [REDACTED].", ["1123-45-67890"] = "1123-45-67890" },
  }) do
    it("knows " .. name, function()
      local redactor = assert(open({ presets = { name } }))
      for text, expected in pairs(cases) do assert.equal(expected, (redactor:text(text))) end
    end)
  end

  it("hides all of a text that takes too long", function()
    local redactor = assert(open({ patterns = { "a", "a[a-y]*z" } }))
    assert.equal("[REDACTED:timeout]", (redactor:text(("a"):rep(200000))))
  end)

  it("reads a file with one expression per line", function()
    local path = "/tmp/macp-redact-" .. crypto.uuid4()
    assert(fs.write(path, "# numbers\n\\d{2,3}\n\nfoo\n"))
    local redactor = assert(open({ file = path }))
    fs.remove(path)
    assert.equal("a [REDACTED] [REDACTED] 1", (redactor:text("a 123 foo 1")))
  end)

  it("stops the start when an expression, a preset or the file cannot be used", function()
    for message, opts in pairs({
      ["MACP_REDACT_PATTERNS: a(: ) is missing at position 3"] = { patterns = { "ok", "a(" } },
      ['MACP_REDACT_PRESETS: "phones" is not known; there are api_keys, email, ssn'] = { presets = { "phones" } },
    }) do
      local redactor, err = open(opts)
      assert.is_nil(redactor)
      assert.same({ "VALIDATION_ERROR", message }, { err.code, err.message })
    end
    local redactor, err = open({ file = "/nowhere/patterns" })
    assert.is_nil(redactor)
    assert.truthy(err.message:find("^MACP_REDACT_PATTERNS_FILE: /nowhere/patterns: "), err.message)
  end)
end)
