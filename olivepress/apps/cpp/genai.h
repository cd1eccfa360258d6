// The part of ONNX Runtime GenAI's C interface (0.14) that chat.cpp calls: the Python wheel brings the library without
// its header. Microsoft's release archives have all of it, as ort_genai_c.h.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
struct OgaResult; struct OgaModel; struct OgaAdapters; struct OgaTokenizer; struct OgaTokenizerStream;
struct OgaSequences; struct OgaGeneratorParams; struct OgaGenerator;

const char* OgaResultGetError(const OgaResult*);
OgaResult* OgaCreateModel(const char* folder, OgaModel**);
OgaResult* OgaCreateAdapters(const OgaModel*, OgaAdapters**);
OgaResult* OgaLoadAdapter(OgaAdapters*, const char* file, const char* name);
OgaResult* OgaCreateTokenizer(const OgaModel*, OgaTokenizer**);
OgaResult* OgaTokenizerApplyChatTemplate(
    const OgaTokenizer*, const char* other, const char* messages, const char* tools, bool begin, const char** text);
OgaResult* OgaTokenizerEncode(const OgaTokenizer*, const char* text, OgaSequences*);
OgaResult* OgaCreateTokenizerStream(const OgaTokenizer*, OgaTokenizerStream**);
OgaResult* OgaTokenizerStreamDecode(OgaTokenizerStream*, int32_t token, const char** text);
OgaResult* OgaCreateSequences(OgaSequences**);
size_t OgaSequencesGetSequenceCount(const OgaSequences*, size_t row);
OgaResult* OgaCreateGeneratorParams(const OgaModel*, OgaGeneratorParams**);
OgaResult* OgaGeneratorParamsSetSearchNumber(OgaGeneratorParams*, const char* name, double);
OgaResult* OgaGeneratorParamsSetSearchBool(OgaGeneratorParams*, const char* name, bool);
OgaResult* OgaCreateGenerator(const OgaModel*, const OgaGeneratorParams*, OgaGenerator**);
OgaResult* OgaSetActiveAdapter(OgaGenerator*, OgaAdapters*, const char* name);
OgaResult* OgaGenerator_AppendTokenSequences(OgaGenerator*, const OgaSequences*);
OgaResult* OgaGenerator_GenerateNextToken(OgaGenerator*);
bool OgaGenerator_IsDone(OgaGenerator*);
OgaResult* OgaGenerator_GetNextTokens(const OgaGenerator*, const int32_t** tokens, size_t* rows);
}
