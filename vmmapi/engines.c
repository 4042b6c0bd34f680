/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of engines in order of preference, and the choice by probe. */
#include "vmmapi/internal.h"

#include <errno.h>
#include <string.h>
#include "base/log.h"
#include "base/util.h"

static const struct engine_ops *const engines[] = {&engine_kvm, &engine_soft};

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
vmctx_choose_engine(const char *want, struct err *err)
{
	bool any = want == NULL || strcmp(want, "auto") == 0;

	for (size_t n = 0; n < ARRAY_LEN(engines); n++) {
		const struct engine_ops *e = engines[n];
		struct err why = {0};

		if (!any && strcmp(want, e->name) != 0)
			continue;
		if (try_engine(e, !any, &why) == 0) {
			log_info("engine: %s", e->name);
			return e;
		}
		if (!any) {
			err_set(err, why.code, "engine=%s: %s (engine=soft works on every host)", want,
				why.msg);
			return NULL;
		}
		log_info("engine: not %s: %s", e->name, why.msg);
	}
	if (any)
		err_set(err, ENOTSUP,
			"engine=auto: no engine works on this host (-o log.level=info says why)");
	else
		err_set(err, EINVAL, "engine: no '%.40s' (kvm, soft or auto)", want);
	return NULL;
}
