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
	const struct engine_ops *ops; /* NULL: not part of this version */
} engines[] = {
    {"kvm", NULL},
    {"soft", &engine_soft},
};

static int
try_engine(size_t i, struct err *err)
{
	if (engines[i].ops == NULL)
		return err_set(err, ENOTSUP, "not there yet");
	return engines[i].ops->probe(err);
}

const struct engine_ops *
engine_choose(const char *want, struct err *err)
{
	bool any = strcmp(want, "auto") == 0;

	for (size_t i = 0; i < ARRAY_LEN(engines); i++) {
		struct err why = {0};

		if (!any && strcmp(want, engines[i].name) != 0)
			continue;
		if (try_engine(i, &why) == 0) {
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
