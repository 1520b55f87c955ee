local redact = require("macp.telemetry.redact")

describe("redact.url", function()
  local cases = {
    { "postgres://u:secret@h:5432/d", "postgres://u:********@h:5432/d" },
    { "postgres://u:se@cret@h/d", "postgres://u:********@h/d" },
    { "postgres://u@h/d?x=1", "postgres://u@h/d?x=1" },
    { "postgres://h/d?password=secret&x=1", "postgres://h/d?password=********&x=1" },
    { "host=h password=secret dbname=d", "host=h password=******** dbname=d" },
    { "host=h password = 'se cret' dbname=d", "host=h password = ******** dbname=d" },
    { "https://example.org/a@b", "https://example.org/a@b" },
  }
  for _, case in ipairs(cases) do
    it("masks " .. case[1], function() assert.equal(case[2], redact.url(case[1])) end)
  end
end)
