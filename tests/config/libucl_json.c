/* SPDX-License-Identifier: BSD-2-Clause */
/* Print a UCL file as JSON with the system's libucl: what our parser is compared with. Exit 1 when it is
 * refused. */
#include <stdio.h>
#include <stdlib.h>
#include <ucl.h>

int
main(int argc, char **argv)
{
	struct ucl_parser *p = ucl_parser_new(UCL_PARSER_DEFAULT);
	ucl_object_t *top;
	unsigned char *json;

	if (argc != 2 || p == NULL || !ucl_parser_add_file(p, argv[1])) {
		fprintf(stderr, "%s\n",
			p != NULL && argc == 2 ? ucl_parser_get_error(p) : "usage: libucl_json FILE");
		return 1;
	}
	top = ucl_parser_get_object(p);
	json = ucl_object_emit(top, UCL_EMIT_JSON);
	printf("%s\n", (char *)json);
	free(json);
	ucl_object_unref(top);
	ucl_parser_free(p);
	return 0;
}
