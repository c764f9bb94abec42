package pushwire

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1" //nolint:gosec // WeChat's signatures are SHA-1
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

// Sign returns the SHA-1 of the sorted and joined parts, in hex: of token, timestamp and nonce it is `signature`, and with the
// encrypted message `msg_signature`.
func Sign(parts ...string) string {
	sorted := slices.Sorted(slices.Values(parts))
	sum := sha1.Sum([]byte(strings.Join(sorted, ""))) //nolint:gosec // WeChat's signatures are SHA-1
	return hex.EncodeToString(sum[:])
}

// aesKeyChars is the length of an EncodingAESKey, which is the Base64 of 32 bytes without its final "=".
const aesKeyChars = 43

// ErrAESKey means that a text is not an EncodingAESKey.
var ErrAESKey = errors.New("must have 43 letters and digits")

// DecodeKey returns the 32 bytes of an EncodingAESKey. The unused bits of its last character may be set.
func DecodeKey(encoded string) ([]byte, error) {
	if len(encoded) != aesKeyChars {
		return nil, ErrAESKey
	}
	key, err := base64.StdEncoding.DecodeString(encoded + "=")
	if err != nil {
		return nil, ErrAESKey
	}
	return key, nil
}

// paddingBlock is the block of the padding, twice that of AES.
const paddingBlock = 32

// randomBytes is the length of the random text before a message.
const randomBytes = 16

// Encrypt returns the Base64 of random, the length of message, message and appID, padded and encrypted with AES-256-CBC. The
// initialization vector is the start of the key.
func Encrypt(key []byte, random [randomBytes]byte, message []byte, appID string) (string, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	plain := make([]byte, 0, randomBytes+4+len(message)+len(appID)+paddingBlock)
	plain = append(plain, random[:]...)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(message))) //nolint:gosec // a message of some KB
	plain = append(plain, message...)
	plain = append(plain, appID...)
	padding := paddingBlock - len(plain)%paddingBlock // 1 to 32
	plain = append(plain, bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, key[:aes.BlockSize]).CryptBlocks(plain, plain)
	return base64.StdEncoding.EncodeToString(plain), nil
}
