/* SPDX-License-Identifier: BSD-2-Clause */
/* Completions for bash, zsh and fish, of the tables of options, keys and verbs. */
#include <string.h>
#include "base/util.h"
#include "vmm/config.h"
#include "vmm/ctl/verbs.h"
#include "vmm/generate/generate.h"
#include "vmm/options.h"

#define NAMES "lhyvectl list 2>/dev/null | sed -n '2,$s/ .*//p'"

/* ---- words ---- */

/* In single quotes; within, characters of `escape` get a backslash. */
static void
quoted(FILE *out, const char *s, const char *escape)
{
	fputc('\'', out);
	for (; *s != '\0'; s++) {
		if (*s == '\'') {
			fputs("'\\''", out);
			continue;
		}
		if (strchr(escape, *s) != NULL)
			fputc('\\', out);
		fputc(*s, out);
	}
	fputc('\'', out);
}

/* Keys with numbers or names in them are completed as far as they are fixed. */
static void
fixed_part(FILE *out, const char *name)
{
	size_t len = strcspn(name, "*@");

	fprintf(out, "%.*s%s", (int)len, name, name[len] == '\0' ? "=" : "");
}

static bool
same_fixed_part(const char *a, const char *b)
{
	size_t la = strcspn(a, "*@"), lb = strcspn(b, "*@");

	return la == lb && a[la] != '\0' && b[lb] != '\0' && strncmp(a, b, la) == 0;
}

/* Each fixed part once. */
static bool
is_first(unsigned i)
{
	for (unsigned j = 0; j < i; j++) {
		if (same_fixed_part(config_schema[i].name, config_schema[j].name))
			return false;
	}
	return true;
}

static bool
settable(const struct config_key *k)
{
	return k->only == NULL || *k->only != '\0';
}

/* "a b c" of what a key may be; false: nothing is to be listed. */
static bool
value_words(const struct config_key *k, char room[static 256])
{
	const char *words = k->type == CONFIG_BOOL ? "true|false" : k->choices;

	if (words == NULL || strpbrk(k->name, "*@") != NULL || !settable(k))
		return false;
	snprintf(room, 256, "%s", k->only != NULL ? k->only : words);
	for (char *p = room; *p != '\0'; p++) {
		if (*p == '|')
			*p = ' ';
	}
	return true;
}

static bool
takes_file(char letter)
{
	return strchr("kr", letter) != NULL;
}

/* ---- bash ---- */

static void
bash_keys(FILE *out)
{
	fprintf(out, "\tlocal keys='");
	for (unsigned i = 0; i < config_schema_count; i++) {
		if (!settable(&config_schema[i]) || !is_first(i))
			continue;
		fixed_part(out, config_schema[i].name);
		fputc(' ', out);
	}
	fprintf(out, "'\n");
}

/* A value: its words, or file names. */
static void
bash_values(FILE *out)
{
	char words[256];

	fprintf(out, "\tcase $key in\n");
	for (unsigned i = 0; i < config_schema_count; i++) {
		const struct config_key *k = &config_schema[i];

		if (value_words(k, words))
			fprintf(out, "\t%s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")) ;;\n", k->name, words);
	}
	fprintf(out, "\t*) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n\tesac\n");
}

void
generate_bash_lhyve(FILE *out)
{
	char letter;
	const char *arg, *help;

	fprintf(out, "# bash completion for lhyve(8); made of its tables by the build.\n_lhyve_value() {\n");
	bash_values(out);
	fprintf(
	    out,
	    "}\n_lhyve() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} key i\n");
	bash_keys(out);
	/* "=" is a word of its own where COMP_WORDBREAKS has it. */
	fprintf(out, "\tCOMPREPLY=()\n"
		     "\tif [[ $cur == = ]]; then key=$prev cur=; _lhyve_value; return; fi\n"
		     "\tif [[ $prev == = ]]; then key=${COMP_WORDS[COMP_CWORD-2]}; _lhyve_value; return; fi\n"
		     "\tif [[ $prev == -o && $cur == *=* ]]; then\n"
		     "\t\tkey=${cur%%%%=*} cur=${cur#*=}\n\t\t_lhyve_value\n"
		     "\t\tfor i in \"${!COMPREPLY[@]}\"; do COMPREPLY[i]=$key=${COMPREPLY[i]}; done\n"
		     "\t\treturn\n\tfi\n"
		     "\tcase $prev in\n"
		     "\t-o) compopt -o nospace 2>/dev/null; COMPREPLY=($(compgen -W \"$keys\" -- \"$cur\")); "
		     "return ;;\n");
	for (unsigned i = 0; options_letter(i, &letter, &arg, &help); i++) {
		if (arg != NULL && letter != 'o')
			fprintf(out, "\t-%c) %s; return ;;\n", letter,
				takes_file(letter) ? "COMPREPLY=($(compgen -f -- \"$cur\"))" : ":");
	}
	fprintf(out, "\t--ucl) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n\tesac\n"
		     "\tCOMPREPLY=($(compgen -W '--help --version --schema --ucl --stats");
	for (unsigned i = 0; options_letter(i, &letter, &arg, &help); i++)
		fprintf(out, " -%c", letter);
	fprintf(out, "' -- \"$cur\"))\n}\ncomplete -F _lhyve lhyve\n");
}

void
generate_bash_lhyvectl(FILE *out)
{
	fprintf(out, "# bash completion for lhyvectl(8); made of its tables by the build.\n_lhyvectl() {\n"
		     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]}\n\tCOMPREPLY=()\n"
		     "\tif [[ $cur == --* ]]; then\n\t\tCOMPREPLY=($(compgen -W '");
	for (unsigned i = 0; i < ctl_option_count; i++)
		fprintf(out, "--%s%s ", ctl_options[i].name, ctl_options[i].arg != NULL ? "=" : "");
	fprintf(out, "' -- \"$cur\"))\n\t\treturn\n\tfi\n\tif ((COMP_CWORD == 1)); "
		     "then\n\t\tCOMPREPLY=($(compgen -W '");
	for (unsigned i = 0; i < ctl_verb_count; i++)
		fprintf(out, "%s ", ctl_verbs[i].name);
	fprintf(out, "' -- \"$cur\"))\n\t\treturn\n\tfi\n\tcase $verb in\n\t");
	for (unsigned i = 0, n = 0; i < ctl_verb_count; i++) {
		if (ctl_verbs[i].takes_vm && strcmp(ctl_verbs[i].name, "inspect") != 0)
			fprintf(out, "%s%s", n++ != 0 ? "|" : "", ctl_verbs[i].name);
	}
	fprintf(out,
		")\n\t\tif ((COMP_CWORD == 2)); then COMPREPLY=($(compgen -W \"$(" NAMES ")\" -- \"$cur\"))\n"
		"\t\telif [[ $verb == console ]]; then COMPREPLY=($(compgen -W 'com1 com2 com3 com4' -- "
		"\"$cur\"))\n"
		"\t\telse COMPREPLY=($(compgen -f -- \"$cur\")); fi ;;\n"
		"\tinspect) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n\tesac\n}\ncomplete -F _lhyvectl "
		"lhyvectl\n");
}

/* ---- zsh ---- */

static const char zsh_special[] = "[]:\\";

/* 'NAME:HELP' for _describe. */
static void
zsh_pair(FILE *out, const char *name, const char *help)
{
	char both[512];

	snprintf(both, sizeof(both), "%s:%s", name, help);
	fprintf(out, "\t\t");
	quoted(out, both, "");
	fputc('\n', out);
}

static void
zsh_keys(FILE *out)
{
	fprintf(out, "\tkeys=(\n");
	for (unsigned i = 0; i < config_schema_count; i++) {
		char name[CONFIG_NAME_ROOM];
		size_t len = strcspn(config_schema[i].name, "*@");

		if (!settable(&config_schema[i]) || !is_first(i))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)len, config_schema[i].name);
		zsh_pair(out, name, config_schema[i].help);
	}
	fprintf(out, "\t)\n\tcase $key in\n");
	for (unsigned i = 0; i < config_schema_count; i++) {
		char words[256];

		if (value_words(&config_schema[i], words))
			fprintf(out, "\t%s) values=(%s) ;;\n", config_schema[i].name, words);
	}
	fprintf(out, "\tesac\n");
}

void
generate_zsh_lhyve(FILE *out)
{
	char letter;
	const char *arg, *help;

	fprintf(out, "#compdef lhyve\n# Made of lhyve(8)'s tables by the build.\n_lhyve_key() {\n"
		     "\tlocal -a keys values\n\tlocal key=${PREFIX%%%%=*}\n");
	zsh_keys(out);
	fprintf(
	    out,
	    "\tif compset -P '*='; then\n\t\tif (( $#values )); then compadd -a values; else _files; fi\n"
	    "\telse\n\t\t_describe -t keys 'configuration key' keys -S '' -q\n\tfi\n}\n_arguments -s \\\n");
	for (unsigned i = 0; options_letter(i, &letter, &arg, &help); i++) {
		char spec[600];

		snprintf(spec, sizeof(spec), "-%c%s", letter, arg != NULL ? "+" : "");
		fprintf(out, "\t%s",
			letter == 'o' || letter == 's' || letter == 'l' || letter == 'k' ? "'*'" : "");
		quoted(out, spec, "");
		fputs("'['", out);
		quoted(out, help, zsh_special);
		fputs("']'", out);
		if (arg != NULL) {
			fputs("':'", out);
			quoted(out, arg, zsh_special);
			fprintf(out, "':%s'",
				letter == 'o'	     ? "_lhyve_key"
				: takes_file(letter) ? "_files"
						     : " ");
		}
		fprintf(out, " \\\n");
	}
	fprintf(out,
		"\t'--help[this text]' '--version[the version]' '--schema[every configuration key]' \\\n"
		"\t'--stats[print counters when the VM ends]' '--ucl[any UCL file as JSON]:file:_files' \\\n"
		"\t'1:name: '\n");
}

void
generate_zsh_lhyvectl(FILE *out)
{
	fprintf(out, "#compdef lhyvectl\n# Made of lhyvectl(8)'s tables by the build.\n"
		     "_lhyvectl_names() { compadd -- ${(f)\"$(" NAMES
		     ")\"} }\n_lhyvectl_verbs() {\n\tlocal -a verbs\n"
		     "\tverbs=(\n");
	for (unsigned i = 0; i < ctl_verb_count; i++)
		zsh_pair(out, ctl_verbs[i].name, ctl_verbs[i].help);
	fprintf(out, "\t)\n\t_describe -t verbs verb verbs\n}\n_arguments \\\n");
	for (unsigned i = 0; i < ctl_option_count; i++) {
		const struct ctl_option *o = &ctl_options[i];

		fprintf(out, "\t'--%s%s['", o->name, o->arg != NULL ? "=" : "");
		quoted(out, o->help, zsh_special);
		fputs("']'", out);
		if (o->arg != NULL)
			fprintf(out, "':%s:%s'", o->arg,
				strcmp(o->name, "vm") == 0    ? "_lhyvectl_names"
				: strcmp(o->arg, "FILE") == 0 ? "_files"
							      : " ");
		fprintf(out, " \\\n");
	}
	fprintf(out, "\t'1:verb:_lhyvectl_verbs' '2:name:_lhyvectl_names' '*:file:_files'\n");
}

/* ---- fish ---- */

void
generate_fish_lhyve(FILE *out)
{
	char letter, words[256];
	const char *arg, *help;

	fprintf(out,
		"# fish completion for lhyve(8); made of its tables by the build.\ncomplete -c lhyve -f\n");
	for (unsigned i = 0; options_letter(i, &letter, &arg, &help); i++) {
		fprintf(out, "complete -c lhyve -s %c%s -d ", letter,
			arg == NULL	     ? ""
			: takes_file(letter) ? " -r -F"
					     : " -x");
		quoted(out, help, "\\");
		fputc('\n', out);
	}
	fprintf(out,
		"complete -c lhyve -l help -d 'this text'\ncomplete -c lhyve -l version -d 'the version'\n"
		"complete -c lhyve -l schema -d 'every configuration key'\n"
		"complete -c lhyve -l stats -d 'print counters when the VM ends'\n"
		"complete -c lhyve -l ucl -r -F -d 'any UCL file as JSON'\n");
	for (unsigned i = 0; i < config_schema_count; i++) {
		const struct config_key *k = &config_schema[i];

		if (!settable(k) || !is_first(i))
			continue;
		fprintf(out, "complete -c lhyve -s o -x -a '");
		fixed_part(out, k->name);
		fprintf(out, "' -d ");
		quoted(out, k->help, "\\");
		fputc('\n', out);
		if (!value_words(k, words))
			continue;
		for (char *save = NULL, *w = strtok_r(words, " ", &save); w != NULL;
		     w = strtok_r(NULL, " ", &save))
			fprintf(out, "complete -c lhyve -s o -x -a '%s=%s'\n", k->name, w);
	}
}

void
generate_fish_lhyvectl(FILE *out)
{
	fprintf(
	    out,
	    "# fish completion for lhyvectl(8); made of its tables by the build.\ncomplete -c lhyvectl -f\n"
	    "function __lhyvectl_names\n\t" NAMES "\nend\n");
	for (unsigned i = 0; i < ctl_verb_count; i++) {
		const struct ctl_verb *v = &ctl_verbs[i];

		fprintf(out, "complete -c lhyvectl -n __fish_use_subcommand -a %s -d ", v->name);
		quoted(out, v->help, "\\");
		fputc('\n', out);
		if (v->takes_vm && strcmp(v->name, "inspect") != 0)
			fprintf(out,
				"complete -c lhyvectl -n '__fish_seen_subcommand_from %s' -a "
				"'(__lhyvectl_names)'\n",
				v->name);
	}
	for (unsigned i = 0; i < ctl_option_count; i++) {
		const struct ctl_option *o = &ctl_options[i];

		fprintf(out, "complete -c lhyvectl -l %s%s -d ", o->name,
			o->arg == NULL		      ? ""
			: strcmp(o->name, "vm") == 0  ? " -x -a '(__lhyvectl_names)'"
			: strcmp(o->arg, "FILE") == 0 ? " -r -F"
						      : " -x");
		quoted(out, o->help, "\\");
		fputc('\n', out);
	}
}
