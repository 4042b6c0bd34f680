/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of engines in order of preference, and the choice by probe. */
#include "vmm/engines.h"

#include <errno.h>
#include <string.h>
#include "base/log.h"
#include "base/util.h"
#include "engine/engine.h"

static const struct {
	const char *name;
	const struct engine_ops *ops;
} engines[] = {
    {"kvm", &engine_kvm},
    {"soft", &engine_soft},
};

/* Asked for by name, an engine has to be there; among others it has to work in full. */
static int
try_engine(const struct engine_ops *e, bool by_name, struct err *err)
{
	struct err why = {0};

	if (e->usable != NULL && e->usable(err) != 0)
		return -err->code;
	if (!by_name)
		return e->probe(err);
	if (log_wanted(LOG_INFO) && e->probe(&why) != 0)
		log_info("engine: %s, though %s", e->name, why.msg);
	return 0;
}

const struct engine_ops *
engine_choose(const char *want, struct err *err)
{
	bool any = strcmp(want, "auto") == 0;

	for (size_t i = 0; i < ARRAY_LEN(engines); i++) {
		struct err why = {0};

		if (!any && strcmp(want, engines[i].name) != 0)
			continue;
		if (try_engine(engines[i].ops, !any, &why) == 0) {
			log_info("engine: %s", engines[i].name);
			return engines[i].ops;
		}
		if (!any) {
			err_set(err, ENOTSUP, "engine=%s: %s (engine=soft works on every host)", want,
				why.msg);
			return NULL;
		}
		log_info("engine: not %s: %s", engines[i].name, why.msg);
	}
	err_set(err, ENOTSUP, "engine=%s: no engine works on this host (-o log.level=info says why)", want);
	return NULL;
}
