local json = require("macp.core.json")
local schema = require("macp.core.schema")

local RUN = {
  type = "object",
  required = { "mode", "session" },
  additionalProperties = false,
  properties = {
    mode = { type = "string", enum = { "live", "sandbox" } },
    session = {
      type = "object",
      required = { "ttlMs", "participants" },
      additionalProperties = false,
      properties = {
        sessionId = { type = "string", format = "session-id" },
        policyVersion = { type = "string", default = "policy.default" },
        ttlMs = { type = "integer", exclusiveMinimum = 0, maximum = 86400000 },
        participants = {
          type = "array", minItems = 1, maxItems = 3, uniqueItems = "id",
          items = {
            type = "object", required = { "id" }, additionalProperties = false,
            properties = { id = { type = "string", minLength = 1, maxLength = 5 } },
          },
        },
        metadata = { type = "object" },
        tags = { type = "array", items = { type = "string" }, uniqueItems = true },
      },
    },
  },
}

local function run_body(session_text)
  return json.decode('{"mode":"live","session":' .. session_text .. "}")
end

local function messages(problems)
  local out = {}
  for i, problem in ipairs(problems or {}) do out[i] = problem.message end
  return out
end

describe("schema.compile", function()
  local validate = schema.compile(RUN)

  it("accepts a valid value and fills defaults in", function()
    local value, problems = validate(run_body('{"ttlMs":1000,"participants":[{"id":"a"},{"id":"b"}]}'))
    assert.same({}, messages(problems))
    assert.equal("policy.default", value.session.policyVersion)
  end)

  local OK = '"participants":[{"id":"a"}]'
  local cases = {
    { '{"ttlMs":-1,' .. OK .. "}", { "session.ttlMs must be a positive number" } },
    { '{"ttlMs":0,' .. OK .. "}", { "session.ttlMs must be a positive number" } },
    { '{"ttlMs":"5",' .. OK .. "}", { "session.ttlMs must be a positive number" } },
    { '{"ttlMs":1.5,' .. OK .. "}", { "session.ttlMs must be a positive number" } },
    { "{" .. OK .. "}", { "session.ttlMs must be a positive number" } },
    { '{"ttlMs":86400001,' .. OK .. "}", { "session.ttlMs must not be greater than 86400000" } },
    { '{"ttlMs":1,"participants":[]}', { "session.participants must contain at least 1 elements" } },
    { '{"ttlMs":1,"participants":{}}', { "session.participants must be an array" } },
    { '{"ttlMs":1,"participants":[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"}]}',
      { "session.participants must contain no more than 3 elements" } },
    { '{"ttlMs":1,"participants":[{"id":""}]}', { "session.participants.0.id should not be empty" } },
    { '{"ttlMs":1,"participants":[{"id":"abcdef"}]}',
      { "session.participants.0.id must be shorter than or equal to 5 characters" } },
    { '{"ttlMs":1,"participants":[{"id":"a"},{"id":7}]}', { "session.participants.1.id must be a string" } },
    { '{"ttlMs":1,"participants":[{"id":"a","role":"x"}]}',
      { "property session.participants.0.role should not exist" } },
    { '{"ttlMs":1,"participants":[{"id":"a"},{"id":"a"}]}',
      { "session.participants must be unique: a is at 0 and 1" } },
    { '{"ttlMs":1,' .. OK .. ',"ttlMS":3}', { "property session.ttlMS should not exist (did you mean `ttlMs`?)" } },
    { '{"ttlMs":1,' .. OK .. ',"zz":3,"aa":1}',
      { "property session.aa should not exist", "property session.zz should not exist" } },
    { '{"ttlMs":1,' .. OK .. ',"sessionId":"short"}',
      { "session.sessionId must be a lower-case UUID v4 or v7, or base64url of 22 to 255 characters" } },
    { '{"ttlMs":1,' .. OK .. ',"metadata":[1]}', { "session.metadata must be an object" } },
    { '{"ttlMs":1,' .. OK .. ',"tags":["a","b","a"]}', { "session.tags must be unique: a is at 0 and 2" } },
    { '{"ttlMs":null,"participants":null}',
      { "session.ttlMs must be a positive number", "session.participants must be an array" } },
    { "[]", { "session must be an object" } },
  }
  for _, case in ipairs(cases) do
    it("says what is wrong with " .. case[1], function()
      local value, problems = validate(run_body(case[1]))
      assert.is_nil(value)
      assert.same(case[2], messages(problems))
    end)
  end

  it("names the body when the whole value is wrong", function()
    for _, text in ipairs({ "[]", '"x"', "1", "null" }) do
      local _, problems = validate(json.decode(text))
      assert.same({ "body must be an object" }, messages(problems))
    end
    local _, problems = validate(nil)
    assert.same({ "body must be an object" }, messages(problems))
  end)

  it("treats null of an optional property as absent", function()
    local value = validate(run_body('{"ttlMs":1,"policyVersion":null,"sessionId":null,' .. OK .. "}"))
    assert.equal("policy.default", value.session.policyVersion)
    assert.is_nil(value.session.sessionId)
  end)

  it("keeps null where the type allows it", function()
    local value = schema.compile({ type = "object", properties = { a = { type = { "string", "null" } } } })(
      json.decode('{"a":null}'))
    assert.equal(json.null, value.a)
  end)

  it("hints at the enum value that was meant", function()
    local _, problems = validate(json.decode('{"mode":"sandbx","session":{"ttlMs":1,' .. OK .. "}}"))
    assert.same({ "mode must be one of the following values: live, sandbox (did you mean `sandbox`?)" },
      messages(problems))
  end)

  it("counts characters, not bytes", function()
    assert.truthy(validate(run_body('{"ttlMs":1,"participants":[{"id":"äöüßé"}]}')))
    assert.is_nil((validate(run_body('{"ttlMs":1,"participants":[{"id":"äöüßéx"}]}'))))
  end)

  it("does not share default tables between values", function()
    local with_default = schema.compile({ type = "object", properties = { a = { default = { n = 1 } } } })
    local first = with_default({})
    first.a.n = 2
    assert.equal(1, with_default({}).a.n)
  end)

  it("bounds the number of problems and the depth", function()
    local list = schema.compile({ type = "array", items = { type = "string" } })
    local numbers = {}
    for i = 1, 1000 do numbers[i] = i end
    local _, problems = list(json.array(numbers))
    assert.equal(50, #problems)
  end)

  it("checks values of open objects against additionalProperties", function()
    local map = schema.compile({ type = "object", additionalProperties = { type = "integer" } })
    assert.truthy(map({ a = 1 }))
    local _, problems = map({ a = 1, b = "x" })
    assert.same({ "b must be an integer number" }, messages(problems))
  end)

  it("picks a schema by discriminator", function()
    local shape = schema.compile({
      type = "object",
      discriminator = {
        propertyName = "kind",
        mapping = {
          circle = { type = "object", required = { "r" }, properties = { r = { type = "number" } } },
          text = { type = "object", required = { "t" }, properties = { t = { type = "string" } } },
        },
      },
    })
    assert.truthy(shape({ kind = "circle", r = 1 }))
    local _, problems = shape({ kind = "text", t = 1 })
    assert.same({ "t must be a string" }, messages(problems))
    _, problems = shape({ kind = "cirle" })
    assert.same({ "kind must be one of the following values: circle, text (did you mean `circle`?)" },
      messages(problems))
  end)

  it("refuses infinite numbers", function()
    assert.is_nil((schema.compile({ type = "number" })(math.huge)))
    assert.is_nil((schema.compile({ type = "integer" })(0 / 0)))
  end)

  it("raises on keywords, types and formats it does not know", function()
    assert.has_error(function() schema.compile({ minimun = 1 }) end,
      "schema: unknown keyword minimun (did you mean `minimum`?)")
    assert.has_error(function() schema.compile({ type = "text" }) end, "schema: unknown type text")
    assert.has_error(function() schema.compile({ type = "string", format = "ip" }) end, "schema: unknown format ip")
  end)
end)

describe("formats", function()
  local cases = {
    { "uuid", "7C1E0000-0000-0000-0000-00000000000f", true }, { "uuid", "7c1e", false },
    { "date-time", "2026-03-01T09:15:22Z", true }, { "date-time", "2026-13-01", false },
    { "uri", "https://example.org/x?y=1", true }, { "uri", "ftp://x", false }, { "uri", "http://a b", false },
    { "uri", "http://user@host/", false },
    { "uri", "http://h:65535/x", true }, { "uri", "http://h:0/x", false }, { "uri", "http://h:65536", false },
    { "uri", "http://h:x", false }, { "uri", "http://:80", false }, { "uri", "http://[::1]:1/", true },
    { "uri", "http://[::1]:0", false }, { "uri", "http://[::1", false },
    { "header-value", "a\r\nb", false }, { "header-value", "a\127", false }, { "header-value", "a\tb \195\164", true },
    { "non-blank", "  ", false }, { "non-blank", " a ", true },
  }
  for _, case in ipairs(cases) do
    it(string.format("%s: %q is %s", case[1], case[2], case[3] and "accepted" or "refused"), function()
      assert.equal(case[3], schema.compile({ type = "string", format = case[1] })(case[2]) ~= nil)
    end)
  end
end)

describe("schema.compile_params", function()
  local validate = schema.compile_params({
    type = "object",
    properties = {
      limit = { type = "integer", minimum = 1, maximum = 200, default = 50 }, seq = { type = "integer" },
      follow = { type = "boolean", default = false },
      speed = { type = "number" },
      status = { type = "string", enum = { "running", "failed" } },
    },
  })

  local accepted = {
    { {}, { limit = 50, follow = false } },
    { { limit = "10", follow = "true", speed = "2.5" }, { limit = 10, follow = true, speed = 2.5 } },
    { { speed = "1e300" }, { limit = 50, follow = false, speed = 1e300 } },
    { { speed = "25E-1" }, { limit = 50, follow = false, speed = 2.5 } },
    { { limit = "" }, { limit = 50, follow = false } },
    { { other = "x" }, { limit = 50, follow = false, other = "x" } },
  }
  for i, case in ipairs(accepted) do
    it("converts texts, case " .. i, function() assert.same(case[2], validate(case[1])) end)
  end

  local refused = {
    { { seq = "9007199254740993000" }, "seq must not be greater than 9007199254740992" },
    { { seq = "-9007199254740993000" }, "seq must not be less than -9007199254740992" },
    { { limit = "0" }, "limit must not be less than 1" }, { { limit = "abc" }, "limit must be an integer number" },
    { { limit = "1e3" }, "limit must be an integer number" }, { { limit = "0x10" }, "limit must be an integer number" },
    { { speed = "1e999" }, "speed must be a number" }, { { speed = "e1" }, "speed must be a number" },
    { { follow = "yes" }, "follow must be a boolean value" },
    { { status = "gone" }, "status must be one of the following values: running, failed" },
  }
  for _, case in ipairs(refused) do
    it("refuses: " .. case[2], function()
      local _, problems = validate(case[1])
      assert.equal(case[2], problems[1].message)
    end)
  end
end)
