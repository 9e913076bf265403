#!/usr/bin/env bash
# Who may include whom: the map of the README as a check. `layers.sh DIR` exits 1 and names each line that breaks it.
set -u
cd "${1:-.}" || exit 2
bad=0
# rule FILES_GLOB FORBIDDEN_REGEX WHY: no #include of FORBIDDEN in any of these files
rule() {
    local files=$1 forbidden=$2 why=$3 hits
    # shellcheck disable=SC2086
    hits=$(grep -nE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($forbidden)" $(eval ls $files 2>/dev/null) /dev/null)
    if [ -n "$hits" ]; then
        echo "$hits" | sed "s|\$|    <- $why|"
        bad=1
    fi
}
CORE='core/*.[ch] core/*/*.[ch]'
rule "$CORE" '(server|config|backends)/' 'core knows neither HTTP nor configuration nor formats'
rule 'backends/*.[ch] backends/*/*.[ch]' '(server|config)/' 'a back end knows neither HTTP nor configuration'
rule 'backends/*.[ch] backends/*/*.[ch]' 'core/(run|adapters|model|merge|tokenizer|files|engine|jobs)' 'a back end sees only the interfaces and the ground floor'
rule 'backends/kernels/*.[ch]' 'backends/[a-z0-9_]+\.h' 'a kernel knows encodings, no format'
rule 'backends/encodings/*.[ch]' 'backends/(kernels/|[a-z0-9_]+\.h)' 'an encoding knows neither kernels nor formats'
rule 'config/*.[ch]' '(server|backends)/|core/(engine|jobs|run|merge|adapters|model|files|tokenizer|kernels|backend)' 'configuration is plain values'
rule 'core/files/*.[ch] core/tokenizer/*.[ch]' 'core/(run|merge|adapters|model|engine|jobs|kernels|backend)' 'files and tokenizer stand on the ground floor'
rule 'core/template/*.[ch]' 'core/(run|merge|adapters|model|engine|jobs|kernels|backend|files)' 'a template knows texts and values only'
rule 'core/grammar/*.[ch]' 'core/(run|merge|adapters|model|engine|jobs|kernels|backend|files)' 'grammars know tokens and their texts only'
rule 'core/model/*.[ch]' 'core/(run|merge|adapters|engine|jobs|tokenizer)' 'the network knows no adapters by name, no queues'
rule 'core/adapters/*.[ch]' 'core/(run|merge|engine|jobs|tokenizer)' 'adapters know the network only'
rule 'core/merge/*.[ch]' 'core/(run|engine|jobs|tokenizer)' 'a merge knows adapters and the network only'
ENGINE=$(ls server/*.[ch] 2>/dev/null | grep -v '^server/cmd_' | tr '\n' ' ')
[ -n "$ENGINE" ] && rule "$ENGINE" 'backends/|config/|core/(run|jobs|files|tokenizer|kernels|backend|merge/rules)' 'server sees the engine only; cmd_*.c compose'
ELSE=$(ls core/*.[ch] core/*/*.[ch] backends/*.[ch] backends/*/*.[ch] config/*.[ch] server/*.[ch] 2>/dev/null | grep -v '^server/http\.c$' | tr '\n' ' ')
[ -n "$ELSE" ] && rule "$ELSE" 'microhttpd' 'libmicrohttpd is the business of server/http.c alone'
NOBLAS=$(ls core/*.[ch] core/*/*.[ch] backends/*.[ch] backends/encodings/*.[ch] config/*.[ch] server/*.[ch] 2>/dev/null | tr '\n' ' ')
[ -n "$NOBLAS" ] && rule "$NOBLAS" '(cblas|lapack|openblas)' 'BLAS is the business of backends/kernels/'
[ -n "$NOBLAS" ] && rule "$NOBLAS" '(cuda|cublas|immintrin|x86intrin)' 'instructions and devices are the business of backends/kernels/'
exit $bad
