/* Cryptoki's C interface as far as we need it, written after PKCS#11 2.40, sections 3 to 5: the
 * types that cross the border and the function list, whose order is fixed for ever.
 * CRYPTOKI_FUNCTIONS(F) expands F(name, parameters, arguments) for each of the 68 functions, in
 * that order. */
#ifndef PAM_PKCS11_CRYPTOKI_H
#define PAM_PKCS11_CRYPTOKI_H

typedef unsigned char CK_BYTE;
typedef unsigned char CK_BBOOL;
typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;

typedef struct { CK_BYTE major, minor; } CK_VERSION;
typedef struct { CK_ULONG type; void *pValue; CK_ULONG ulValueLen; } CK_ATTRIBUTE;
typedef struct { CK_ULONG mechanism; void *pParameter; CK_ULONG ulParameterLen; } CK_MECHANISM;
typedef struct { void *create, *destroy, *lock, *unlock; CK_ULONG flags; void *pReserved; } CK_C_INITIALIZE_ARGS;

/* Texts are padded with blanks and not terminated. */
typedef struct {
	CK_VERSION cryptokiVersion;
	CK_BYTE manufacturerID[32];
	CK_ULONG flags;
	CK_BYTE libraryDescription[32];
	CK_VERSION libraryVersion;
} CK_INFO;

typedef struct {
	CK_BYTE slotDescription[64], manufacturerID[32];
	CK_ULONG flags;
	CK_VERSION hardwareVersion, firmwareVersion;
} CK_SLOT_INFO;

typedef struct {
	CK_BYTE label[32], manufacturerID[32], model[16], serialNumber[16];
	CK_ULONG flags;
	CK_ULONG ulMaxSessionCount, ulSessionCount, ulMaxRwSessionCount, ulRwSessionCount, ulMaxPinLen, ulMinPinLen;
	CK_ULONG ulTotalPublicMemory, ulFreePublicMemory, ulTotalPrivateMemory, ulFreePrivateMemory;
	CK_VERSION hardwareVersion, firmwareVersion;
	CK_BYTE utcTime[16];
} CK_TOKEN_INFO;

typedef struct CK_FUNCTION_LIST CK_FUNCTION_LIST;

#define CRYPTOKI_FUNCTIONS(F) \
	F(C_Initialize, (void *args), (args)) \
	F(C_Finalize, (void *reserved), (reserved)) \
	F(C_GetInfo, (CK_INFO *info), (info)) \
	F(C_GetFunctionList, (CK_FUNCTION_LIST **list), (list)) \
	F(C_GetSlotList, (CK_BBOOL present, CK_ULONG *slots, CK_ULONG *count), (present, slots, count)) \
	F(C_GetSlotInfo, (CK_ULONG slot, CK_SLOT_INFO *info), (slot, info)) \
	F(C_GetTokenInfo, (CK_ULONG slot, CK_TOKEN_INFO *info), (slot, info)) \
	F(C_GetMechanismList, (CK_ULONG slot, CK_ULONG *mechanisms, CK_ULONG *count), (slot, mechanisms, count)) \
	F(C_GetMechanismInfo, (CK_ULONG slot, CK_ULONG mechanism, void *info), (slot, mechanism, info)) \
	F(C_InitToken, (CK_ULONG slot, CK_BYTE *pin, CK_ULONG pinLength, CK_BYTE *label), (slot, pin, pinLength, label)) \
	F(C_InitPIN, (CK_ULONG session, CK_BYTE *pin, CK_ULONG pinLength), (session, pin, pinLength)) \
	F(C_SetPIN, (CK_ULONG session, CK_BYTE *old, CK_ULONG oldLength, CK_BYTE *fresh, CK_ULONG freshLength), (session, old, oldLength, fresh, freshLength)) \
	F(C_OpenSession, (CK_ULONG slot, CK_ULONG flags, void *application, void *notify, CK_ULONG *session), (slot, flags, application, notify, session)) \
	F(C_CloseSession, (CK_ULONG session), (session)) \
	F(C_CloseAllSessions, (CK_ULONG slot), (slot)) \
	F(C_GetSessionInfo, (CK_ULONG session, void *info), (session, info)) \
	F(C_GetOperationState, (CK_ULONG session, CK_BYTE *state, CK_ULONG *length), (session, state, length)) \
	F(C_SetOperationState, (CK_ULONG session, CK_BYTE *state, CK_ULONG length, CK_ULONG cipherKey, CK_ULONG authKey), (session, state, length, cipherKey, authKey)) \
	F(C_Login, (CK_ULONG session, CK_ULONG user, CK_BYTE *pin, CK_ULONG pinLength), (session, user, pin, pinLength)) \
	F(C_Logout, (CK_ULONG session), (session)) \
	F(C_CreateObject, (CK_ULONG session, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_ULONG *object), (session, attributes, count, object)) \
	F(C_CopyObject, (CK_ULONG session, CK_ULONG object, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_ULONG *copy), (session, object, attributes, count, copy)) \
	F(C_DestroyObject, (CK_ULONG session, CK_ULONG object), (session, object)) \
	F(C_GetObjectSize, (CK_ULONG session, CK_ULONG object, CK_ULONG *size), (session, object, size)) \
	F(C_GetAttributeValue, (CK_ULONG session, CK_ULONG object, CK_ATTRIBUTE *attributes, CK_ULONG count), (session, object, attributes, count)) \
	F(C_SetAttributeValue, (CK_ULONG session, CK_ULONG object, CK_ATTRIBUTE *attributes, CK_ULONG count), (session, object, attributes, count)) \
	F(C_FindObjectsInit, (CK_ULONG session, CK_ATTRIBUTE *attributes, CK_ULONG count), (session, attributes, count)) \
	F(C_FindObjects, (CK_ULONG session, CK_ULONG *objects, CK_ULONG max, CK_ULONG *count), (session, objects, max, count)) \
	F(C_FindObjectsFinal, (CK_ULONG session), (session)) \
	F(C_EncryptInit, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG key), (session, mechanism, key)) \
	F(C_Encrypt, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_EncryptUpdate, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_EncryptFinal, (CK_ULONG session, CK_BYTE *out, CK_ULONG *outLength), (session, out, outLength)) \
	F(C_DecryptInit, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG key), (session, mechanism, key)) \
	F(C_Decrypt, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_DecryptUpdate, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_DecryptFinal, (CK_ULONG session, CK_BYTE *out, CK_ULONG *outLength), (session, out, outLength)) \
	F(C_DigestInit, (CK_ULONG session, CK_MECHANISM *mechanism), (session, mechanism)) \
	F(C_Digest, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_DigestUpdate, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength), (session, in, inLength)) \
	F(C_DigestKey, (CK_ULONG session, CK_ULONG key), (session, key)) \
	F(C_DigestFinal, (CK_ULONG session, CK_BYTE *out, CK_ULONG *outLength), (session, out, outLength)) \
	F(C_SignInit, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG key), (session, mechanism, key)) \
	F(C_Sign, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_SignUpdate, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength), (session, in, inLength)) \
	F(C_SignFinal, (CK_ULONG session, CK_BYTE *out, CK_ULONG *outLength), (session, out, outLength)) \
	F(C_SignRecoverInit, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG key), (session, mechanism, key)) \
	F(C_SignRecover, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_VerifyInit, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG key), (session, mechanism, key)) \
	F(C_Verify, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *signature, CK_ULONG signatureLength), (session, in, inLength, signature, signatureLength)) \
	F(C_VerifyUpdate, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength), (session, in, inLength)) \
	F(C_VerifyFinal, (CK_ULONG session, CK_BYTE *signature, CK_ULONG signatureLength), (session, signature, signatureLength)) \
	F(C_VerifyRecoverInit, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG key), (session, mechanism, key)) \
	F(C_VerifyRecover, (CK_ULONG session, CK_BYTE *signature, CK_ULONG signatureLength, CK_BYTE *out, CK_ULONG *outLength), (session, signature, signatureLength, out, outLength)) \
	F(C_DigestEncryptUpdate, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_DecryptDigestUpdate, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_SignEncryptUpdate, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_DecryptVerifyUpdate, (CK_ULONG session, CK_BYTE *in, CK_ULONG inLength, CK_BYTE *out, CK_ULONG *outLength), (session, in, inLength, out, outLength)) \
	F(C_GenerateKey, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_ULONG *key), (session, mechanism, attributes, count, key)) \
	F(C_GenerateKeyPair, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *publicAttributes, CK_ULONG publicCount, CK_ATTRIBUTE *privateAttributes, CK_ULONG privateCount, CK_ULONG *publicKey, CK_ULONG *privateKey), (session, mechanism, publicAttributes, publicCount, privateAttributes, privateCount, publicKey, privateKey)) \
	F(C_WrapKey, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG wrappingKey, CK_ULONG key, CK_BYTE *out, CK_ULONG *outLength), (session, mechanism, wrappingKey, key, out, outLength)) \
	F(C_UnwrapKey, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG wrappingKey, CK_BYTE *in, CK_ULONG inLength, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_ULONG *key), (session, mechanism, wrappingKey, in, inLength, attributes, count, key)) \
	F(C_DeriveKey, (CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG base, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_ULONG *key), (session, mechanism, base, attributes, count, key)) \
	F(C_SeedRandom, (CK_ULONG session, CK_BYTE *seed, CK_ULONG length), (session, seed, length)) \
	F(C_GenerateRandom, (CK_ULONG session, CK_BYTE *random, CK_ULONG length), (session, random, length)) \
	F(C_GetFunctionStatus, (CK_ULONG session), (session)) \
	F(C_CancelFunction, (CK_ULONG session), (session)) \
	F(C_WaitForSlotEvent, (CK_ULONG flags, CK_ULONG *slot, void *reserved), (flags, slot, reserved))

#define CRYPTOKI_FIELD(name, parameters, arguments) CK_RV (*name) parameters;
struct CK_FUNCTION_LIST {
	CK_VERSION version;
	CRYPTOKI_FUNCTIONS(CRYPTOKI_FIELD)
};
#undef CRYPTOKI_FIELD

#endif
