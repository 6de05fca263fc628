-- One request after another from a template; see wrk.py.
-- arg: the template's file. In it @N@ becomes the request's number and @C@ that of its
-- conversation, both of a fixed width, so that the length never changes.

local CONVERSATIONS = 64
local starts, ends = {}, {}
local number = 0

local function replace(text, mark, value)
  return (text:gsub(mark, string.format("%07d", value)))
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local template = file:read("*a")
  file:close()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  for conversation = 1, CONVERSATIONS do
    wrk.body = replace(template, "@C@", conversation)
    local request = wrk.format()
    local at = request:find("@N@", 1, true)
    starts[conversation] = at and request:sub(1, at - 1) or request
    ends[conversation] = at and request:sub(at + 3) or false
    if at then
      -- The mark is four bytes shorter than the number that takes its place.
      wrk.body = replace(wrk.body, "@N@", 0)
      request = wrk.format()
      starts[conversation] = request:sub(1, -(#ends[conversation] + 8))
    end
  end
end

function request()
  number = number + 1
  local conversation = number % CONVERSATIONS + 1
  local after = ends[conversation]
  if not after then return starts[conversation] end
  return starts[conversation] .. string.format("%07d", number) .. after
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
