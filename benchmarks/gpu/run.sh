#!/usr/bin/env bash
# Measure MAX and the gateway on a GPU machine: a Llama 3.x 8B in bfloat16 with random weights, whose speed is real.
# usage: OUT=DIR run.sh TREE    DIR gets logs and reports; TREE holds a relocated Python with MAX and maxgate in site/,
# the programs of this repository, a Llama 3 tokenizer in tokenizer/, and weights.py, which writes a random model
set -u
tree=$1
export PYTHONHOME=$tree/python PYTHONPATH=$tree/site:$tree PATH=$tree/site/bin:$tree/python/bin:$PATH
export LD_LIBRARY_PATH=$tree/python/lib:/usr/local/nvidia/lib64:${LD_LIBRARY_PATH:-}
export MODULAR_HOME=$tree/site/modular OTEL_SDK_DISABLED=true HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
py=$tree/python/bin/python3.11 model=/opt/model engine=http://127.0.0.1:8080 gateway=http://127.0.0.1:8000
cd "$tree" || exit 1
started=$(date +%s)

say() { echo "[$(($(date +%s) - started)) s] $*"; }

start_max() { # flags; waits until MAX lists its model
  "$py" -m max._entrypoints.pipelines serve --model-path $model --served-model-name llama-8b-random \
    --devices gpu:0 --max-length 8192 --max-batch-size 64 --port 8080 "$@" >>"$OUT/max.log" 2>&1 &
  max=$!
  for _ in $(seq 150); do
    curl -s -o /dev/null $engine/v1/models && { say "MAX is ready: $*"; return 0; }
    kill -0 $max 2>/dev/null || { say "MAX has ended"; tail -n 25 "$OUT/max.log"; return 1; }
    sleep 2
  done
  say "MAX took over 300 s"; tail -n 25 "$OUT/max.log"; return 1
}

ask() { # name, JSON: the response goes to the output and into a file
  printf '%s: ' "$1"
  curl -s -m 60 $gateway/v1/chat/completions -H 'content-type: application/json' -d "$2" | tee "$OUT/$1.json" | cut -c1-420
  echo
}

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
[ -e $model/config.json ] || {
  env -u PYTHONHOME -u PYTHONPATH -u LD_LIBRARY_PATH python3 weights.py $model && cp tokenizer/* $model/
} || exit 1
say "weights are written"
printf 'name: llama-8b-random\nserved_model_name: llama-8b-random\nprompt: llama3\ntokenizer: %s\ncontext_length: 8192\n' \
  $model >card.yaml
start_max || exit 1
"$py" api_server.py --port 8000 --engine-url $engine --card card.yaml --log-format json >"$OUT/gateway.log" 2>&1 &
until curl -sf -o /dev/null $gateway/health/ready; do sleep 0.3; done
say "the gateway is ready"
ask chat '{"messages":[{"role":"user","content":"Hi"}],"max_tokens":16,"temperature":0}'
load() { "$py" load_test.py --url $gateway --max-tokens 100 "$@" 2>&1 | tail -n 75; say "load: $*"; }
load --scenario short,medium -c 1,8,16,32,64 -d 6s -o "$OUT/levels.json"
load --scenario medium -r 25,40 -d 12s -o "$OUT/rates.json"
load --scenario medium -c 8 -d 10s --baseline $engine -o "$OUT/paired.json"
kill $max; wait $max 2>/dev/null
start_max --enable-structured-output --enable-penalties --enable-min-tokens || exit 1
until curl -s $gateway/health | grep -q '"grammar":true'; do
  sleep 0.5; [ $(($(date +%s) - started)) -gt 520 ] && { say "no grammar found"; curl -s $gateway/health; exit 1; }
done
say "the gateway has found the grammar"
schema='{"type":"object","properties":{"city":{"type":"string","enum":["Paris","Rome"]},"people":{"type":"integer"}},"required":["city","people"],"additionalProperties":false}'
ask schema '{"messages":[{"role":"user","content":"Paris"}],"max_tokens":200,"seed":1,"response_format":{"type":"json_schema","json_schema":{"name":"city","strict":true,"schema":'"$schema"'}}}'
ask tool '{"messages":[{"role":"user","content":"Paris"}],"max_tokens":300,"seed":1,"tool_choice":"required","tools":[{"type":"function","function":{"name":"find","strict":true,"parameters":'"$schema"'}}]}'
ask logprobs '{"messages":[{"role":"user","content":"Hi"}],"max_tokens":3,"logprobs":true,"top_logprobs":2}'
ask min_tokens '{"messages":[{"role":"user","content":"Hi"}],"max_tokens":9,"min_tokens":9,"frequency_penalty":1}'
curl -s $gateway/health >"$OUT/health.json"
kill %2 $max 2>/dev/null; wait 2>/dev/null
say "done"
