/* SPDX-License-Identifier: BSD-2-Clause */
/* lhyve_config(5): every row of the schema, below a heading for each section. */
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "vmm/config.h"
#include "vmm/generate/generate.h"

enum { LINE = 76 };

/* What stands above the keys of a section. */
static const struct {
	const char *section, *title, *text;
} sections[] = {
    {"", "General", "Who the VM is, and what runs it."},
    {"cpu", "Processors", "Number, topology and model. What is given of the topology must multiply out."},
    {"vcpu", "One processor", "N is the number of a virtual CPU."},
    {"memory", "Memory", "Guest RAM, and what it is made of on the host."},
    {"boot", "Boot", "How the guest starts."},
    {"x86", "x86", "What exists on this architecture only."},
    {"disk", "Disks", "Disks by names of their own; each becomes a function at a free slot of PCI bus 0."},
    {"net", "Network", "Network cards by names of their own, as disks."},
    {"pci", "PCI", "Functions by bus, slot and function, as in bhyve_config(5)."},
    {"lpc", "LPC", "Devices behind the LPC bridge."},
    {"control", "Control", "The socket that lhyvectl(8) uses."},
    {"log", "Log", "What is told of the VM's life."},
    {"soft", "Software engine", "Tunables of the software engine."},
    {"debug", "Debugging", "For a look inside."},
};

/* The part of the name before its first dot; "" when it has none. */
static size_t
section_length(const char *name)
{
	const char *dot = strchr(name, '.');

	return dot != NULL ? (size_t)(dot - name) : 0;
}

static bool
in_section(const char *name, const char *section)
{
	return section_length(name) == strlen(section) && strncmp(name, section, strlen(section)) == 0;
}

static bool
has_heading(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
		if (in_section(name, sections[i].section))
			return true;
	}
	return false;
}

/* One word: nothing in it is a request or an escape. */
static void
word(FILE *out, const char *s, size_t len, bool first)
{
	if (first && (*s == '.' || *s == '\''))
		fputs("\\&", out);
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\\')
			fputs("\\e", out);
		else
			fputc(s[i], out);
	}
}

/* Text in lines of moderate length; a sentence begins a line. */
static void
text(FILE *out, const char *s)
{
	size_t column = 0;

	while (*s != '\0') {
		size_t len = strcspn(s, " ");

		if (column != 0 && column + 1 + len > LINE) {
			fputc('\n', out);
			column = 0;
		}
		if (column != 0)
			fputc(' ', out);
		word(out, s, len, column == 0);
		column += len + 1;
		if (s[len - 1] == '.' && s[len] == ' ') {
			fputc('\n', out);
			column = 0;
		}
		s += len + (s[len] == ' ');
	}
	fputc('\n', out);
}

/* "*" is a number and "@" a name: N and NAME. */
static void
key_name(FILE *out, const char *name)
{
	for (; *name != '\0'; name++) {
		if (*name == '*')
			fputs("N", out);
		else if (*name == '@')
			fputs("NAME", out);
		else
			fputc(*name, out);
	}
}

static void
range(FILE *out, const struct config_key *k)
{
	if (k->max == 0)
		return;
	if (k->type == CONFIG_SIZE)
		fprintf(out, ", %lluM to %lluM", (unsigned long long)(k->min / MIB),
			(unsigned long long)(k->max / MIB));
	else
		fprintf(out, ", %llu to %llu", (unsigned long long)k->min, (unsigned long long)k->max);
}

/* All that the row says, as sentences. */
static void
sentences(FILE *out, const struct config_key *k)
{
	fprintf(out, "Type: %s", config_type_name(k->type));
	if (k->unit != NULL)
		fprintf(out, " (%s)", k->unit);
	if (k->choices != NULL)
		fprintf(out, ", one of");
	for (const char *p = k->choices; p != NULL; p = strchr(p, '|')) {
		p += *p == '|';
		fprintf(out, " %.*s", (int)strcspn(p, "|"), p);
	}
	range(out, k);
	fprintf(out, "; default: %s.", k->def != NULL ? k->def : "not set");
	if (k->alias != NULL)
		fprintf(out, " Also written %s.", k->alias);
	if (k->running)
		fprintf(out, " May change while the VM runs.");
	if (k->only != NULL && *k->only == '\0')
		fprintf(out, " Not there yet.");
	else if (k->only != NULL && (k->def == NULL || strcmp(k->only, k->def) != 0))
		fprintf(out, " This version can: %s.", k->only);
	else if (k->only != NULL)
		fprintf(out, " This version can do nothing else.");
}

static void
one_line(FILE *out, const struct config_key *k)
{
	fprintf(out, "%s.", k->help);
}

/* What `say` says, wrapped. */
static void
paragraph(FILE *out, void (*say)(FILE *out, const struct config_key *k), const struct config_key *k)
{
	char *buf = NULL;
	size_t len = 0;
	FILE *all = open_memstream(&buf, &len);

	LH_ASSERT(all != NULL);
	say(all, k);
	LH_ASSERT(fclose(all) == 0);
	text(out, buf);
	free(buf);
}

static void
row(FILE *out, const struct config_key *k)
{
	fputs(".It Cm ", out);
	key_name(out, k->name);
	fputc('\n', out);
	paragraph(out, one_line, k);
	fputs(".br\n", out);
	paragraph(out, sentences, k);
}

static void
heading(FILE *out, const char *title, const char *about)
{
	fprintf(out, ".Ss %s\n", title);
	text(out, about);
	fprintf(out, ".Bl -tag -width Ds\n");
}

static void
keys(FILE *out)
{
	bool others = false;

	for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
		heading(out, sections[i].title, sections[i].text);
		for (unsigned k = 0; k < config_schema_count; k++) {
			if (in_section(config_schema[k].name, sections[i].section))
				row(out, &config_schema[k]);
		}
		fprintf(out, ".El\n");
	}
	for (unsigned k = 0; k < config_schema_count; k++) {
		if (has_heading(config_schema[k].name))
			continue;
		if (!others)
			heading(out, "Others", "Keys that stand alone.");
		others = true;
		row(out, &config_schema[k]);
	}
	if (others)
		fprintf(out, ".El\n");
}

static const char before[] = ".\\\" SPDX-License-Identifier: BSD-2-Clause\n"
			     ".\\\" Made of the schema by the build.\n"
			     ".Dd November 27, 2026\n"
			     ".Dt LHYVE_CONFIG 5\n"
			     ".Os\n"
			     ".Sh NAME\n"
			     ".Nm lhyve_config\n"
			     ".Nd configuration keys of lhyve\n"
			     ".Sh DESCRIPTION\n"
			     "A virtual machine of lhyve(8) is described by one tree of keys.\n"
			     "Options of the command line are short forms of keys,\n"
			     ".Fl o Ar key Ns = Ns Ar value\n"
			     "sets any key,\n"
			     ".Fl k Ar file\n"
			     "reads a file; what comes later wins.\n"
			     "A key that is not known, or a value of the wrong type or out of range,\n"
			     "is an error before the guest starts.\n"
			     ".Pp\n"
			     "A file is in UCL: sections are the parts of dotted names, so that\n"
			     ".Ql cpu { count = 4 }\n"
			     "sets\n"
			     ".Cm cpu.count .\n"
			     "A file whose every line is blank, a comment or\n"
			     ".Ar key Ns = Ns Ar value\n"
			     "with no blank around the sign is taken as bhyve_config(5)'s.\n"
			     "In such a file, and with\n"
			     ".Fl o ,\n"
			     ".Ql %(key)\n"
			     "in a value stands for another key's value, and\n"
			     ".Ql %%\n"
			     "for a percent sign.\n"
			     ".Pp\n"
			     "Sizes have the suffixes K, M, G and T, powers of 1024.\n"
			     "Booleans are true or false, yes or no, on or off.\n"
			     "In the names below N stands for a number,\n"
			     "NAME for a name of letters, digits, _ and -.\n"
			     ".Sh KEYS\n";

static const char after[] = ".Sh EXAMPLES\n"
			    "A machine with two processors, a disk, and a network card:\n"
			    ".Bd -literal -offset indent\n"
			    "name   = \"web1\"\n"
			    "cpu    { count = 2 }\n"
			    "memory { size = 1G }\n"
			    "boot   {\n"
			    "    kernel = \"/boot/vmlinuz\"\n"
			    "    initrd = \"/boot/initrd.img\"\n"
			    "    cmdline = \"console=ttyS0 root=/dev/vda1\"\n"
			    "}\n"
			    "disk \"root\" { path = \"/vms/web1.raw\" }\n"
			    "net \"lan\"   { backend = user, hostfwd = [\"tcp:127.0.0.1:2222-:22\"] }\n"
			    "console \"com1\" { backend = stdio }\n"
			    ".Ed\n"
			    ".Pp\n"
			    "The same name in a file of bhyve_config(5)'s form, for any machine:\n"
			    ".Bd -literal -offset indent\n"
			    "cpus=2\n"
			    "memory.size=1G\n"
			    "boot.kernel=/boot/vmlinuz\n"
			    "lpc.com1.path=/var/log/vms/%(name).log\n"
			    ".Ed\n"
			    ".Sh SEE ALSO\n"
			    "lhyve(8), lhyvectl(8), and\n"
			    ".Pa configuration.md\n"
			    "for the rules of files.\n";

void
generate_mdoc(FILE *out)
{
	fputs(before, out);
	keys(out);
	fputs(after, out);
}
